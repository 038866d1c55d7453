//! The structs of the messages with all their fields, for macros that do something with each: a test that
//! leaves out a field or an API does not compile.

/// Calls `$each!` with every struct.
macro_rules! for_each_struct {
    ($each:ident) => {
        $each! {
            api_versions::ApiVersionsRequest { client_software_name, client_software_version }
            api_versions::ApiVersionsResponse {
                error_code, api_keys, throttle_time_ms, supported_features,
                finalized_features_epoch, finalized_features, zk_migration_ready
            }
            api_versions::ApiVersion { api_key, min_version, max_version }
            api_versions::SupportedFeatureKey { name, min_version, max_version }
            api_versions::FinalizedFeatureKey { name, max_version_level, min_version_level }
            create_topics::CreateTopicsRequest { topics, timeout_ms, validate_only }
            create_topics::CreatableTopic {
                name, num_partitions, replication_factor, assignments, configs
            }
            create_topics::CreatableReplicaAssignment { partition_index, broker_ids }
            create_topics::CreatableTopicConfig { name, value }
            create_topics::CreateTopicsResponse { throttle_time_ms, topics }
            create_topics::CreatableTopicResult {
                name, topic_id, error_code, error_message, topic_config_error_code, num_partitions,
                replication_factor, configs
            }
            create_topics::CreatableTopicConfigs {
                name, value, read_only, config_source, is_sensitive
            }
            delete_topics::DeleteTopicsRequest { topics, topic_names, timeout_ms }
            delete_topics::DeleteTopicState { name, topic_id }
            delete_topics::DeleteTopicsResponse { throttle_time_ms, responses }
            delete_topics::DeletableTopicResult { name, topic_id, error_code, error_message }
            describe_cluster::DescribeClusterRequest {
                include_cluster_authorized_operations, endpoint_type, include_fenced_brokers
            }
            describe_cluster::DescribeClusterResponse {
                throttle_time_ms, error_code, error_message, endpoint_type, cluster_id,
                controller_id, brokers, cluster_authorized_operations
            }
            describe_cluster::DescribeClusterBroker { broker_id, host, port, rack, is_fenced }
            fetch::FetchRequest {
                cluster_id, replica_id, replica_state, max_wait_ms, min_bytes, max_bytes,
                isolation_level, session_id, session_epoch, topics, forgotten_topics_data, rack_id
            }
            fetch::ReplicaState { replica_id, replica_epoch }
            fetch::FetchTopic { topic, topic_id, partitions }
            fetch::FetchPartition {
                partition, current_leader_epoch, fetch_offset, last_fetched_epoch, log_start_offset,
                partition_max_bytes, replica_directory_id, high_watermark
            }
            fetch::ForgottenTopic { topic, topic_id, partitions }
            fetch::FetchResponse {
                throttle_time_ms, error_code, session_id, responses, node_endpoints
            }
            fetch::FetchableTopicResponse { topic, topic_id, partitions }
            fetch::PartitionData {
                partition_index, error_code, high_watermark, last_stable_offset, log_start_offset,
                diverging_epoch, current_leader, snapshot_id, aborted_transactions,
                preferred_read_replica, records
            }
            fetch::EpochEndOffset { epoch, end_offset }
            fetch::LeaderIdAndEpoch { leader_id, leader_epoch }
            fetch::SnapshotId { end_offset, epoch }
            fetch::AbortedTransaction { producer_id, first_offset }
            fetch::NodeEndpoint { node_id, host, port, rack }
            list_offsets::ListOffsetsRequest { replica_id, isolation_level, topics, timeout_ms }
            list_offsets::ListOffsetsTopic { name, partitions }
            list_offsets::ListOffsetsPartition { partition_index, current_leader_epoch, timestamp }
            list_offsets::ListOffsetsResponse { throttle_time_ms, topics }
            list_offsets::ListOffsetsTopicResponse { name, partitions }
            list_offsets::ListOffsetsPartitionResponse {
                partition_index, error_code, timestamp, offset, leader_epoch
            }
            metadata::MetadataRequest {
                topics, allow_auto_topic_creation, include_cluster_authorized_operations,
                include_topic_authorized_operations
            }
            metadata::MetadataRequestTopic { topic_id, name }
            metadata::MetadataResponse {
                throttle_time_ms, brokers, cluster_id, controller_id, topics,
                cluster_authorized_operations, error_code
            }
            metadata::MetadataResponseBroker { node_id, host, port, rack }
            metadata::MetadataResponseTopic {
                error_code, name, topic_id, is_internal, partitions, topic_authorized_operations
            }
            metadata::MetadataResponsePartition {
                error_code, partition_index, leader_id, leader_epoch, replica_nodes, isr_nodes,
                offline_replicas
            }
            produce::ProduceRequest { transactional_id, acks, timeout_ms, topic_data }
            produce::TopicProduceData { name, topic_id, partition_data }
            produce::PartitionProduceData { index, records }
            produce::ProduceResponse { responses, throttle_time_ms, node_endpoints }
            produce::TopicProduceResponse { name, topic_id, partition_responses }
            produce::PartitionProduceResponse {
                index, error_code, base_offset, log_append_time_ms, log_start_offset, record_errors,
                error_message, current_leader
            }
            produce::BatchIndexAndErrorMessage { batch_index, batch_index_error_message }
            produce::LeaderIdAndEpoch { leader_id, leader_epoch }
            produce::NodeEndpoint { node_id, host, port, rack }
        }
    };
}

/// Calls `$each!` with every API.
macro_rules! for_each_api {
    ($each:ident) => {
        $each! { Produce Fetch ListOffsets Metadata ApiVersions CreateTopics DeleteTopics DescribeCluster }
    };
}
