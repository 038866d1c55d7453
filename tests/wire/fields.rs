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
            delete_groups::DeleteGroupsRequest { groups_names }
            delete_groups::DeleteGroupsResponse { throttle_time_ms, results }
            delete_groups::DeletableGroupResult { group_id, error_code }
            delete_records::DeleteRecordsRequest { topics, timeout_ms }
            delete_records::DeleteRecordsTopic { name, partitions }
            delete_records::DeleteRecordsPartition { partition_index, offset }
            delete_records::DeleteRecordsResponse { throttle_time_ms, topics }
            delete_records::DeleteRecordsTopicResult { name, partitions }
            delete_records::DeleteRecordsPartitionResult {
                partition_index, low_watermark, error_code
            }
            delete_topics::DeleteTopicsRequest { topics, topic_names, timeout_ms }
            delete_topics::DeleteTopicState { name, topic_id }
            delete_topics::DeleteTopicsResponse { throttle_time_ms, responses }
            delete_topics::DeletableTopicResult { name, topic_id, error_code, error_message }
            alter_configs::AlterConfigsRequest { resources, validate_only }
            alter_configs::AlterConfigsResource { resource_type, resource_name, configs }
            alter_configs::AlterableConfig { name, value }
            alter_configs::AlterConfigsResponse { throttle_time_ms, responses }
            alter_configs::AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name }
            alter_partition_reassignments::AlterPartitionReassignmentsRequest { timeout_ms, allow_replication_factor_change, topics }
            alter_partition_reassignments::ReassignableTopic { name, partitions }
            alter_partition_reassignments::ReassignablePartition { partition_index, replicas }
            alter_partition_reassignments::AlterPartitionReassignmentsResponse { throttle_time_ms, allow_replication_factor_change, error_code, error_message, responses }
            alter_partition_reassignments::ReassignableTopicResponse { name, partitions }
            alter_partition_reassignments::ReassignablePartitionResponse { partition_index, error_code, error_message }
            create_partitions::CreatePartitionsRequest { topics, timeout_ms, validate_only }
            create_partitions::CreatePartitionsTopic { name, count, assignments }
            create_partitions::CreatePartitionsAssignment { broker_ids }
            create_partitions::CreatePartitionsResponse { throttle_time_ms, results }
            create_partitions::CreatePartitionsTopicResult { name, error_code, error_message }
            describe_configs::DescribeConfigsRequest { resources, include_synonyms, include_documentation }
            describe_configs::DescribeConfigsResource { resource_type, resource_name, configuration_keys }
            describe_configs::DescribeConfigsResponse { throttle_time_ms, results }
            describe_configs::DescribeConfigsResult { error_code, error_message, resource_type, resource_name, configs }
            describe_configs::DescribeConfigsResourceResult { name, value, read_only, config_source, is_sensitive, synonyms, config_type, documentation }
            describe_configs::DescribeConfigsSynonym { name, value, source }
            describe_log_dirs::DescribeLogDirsRequest { topics }
            describe_log_dirs::DescribableLogDirTopic { topic, partitions }
            describe_log_dirs::DescribeLogDirsResponse { throttle_time_ms, error_code, results }
            describe_log_dirs::DescribeLogDirsResult { error_code, log_dir, topics, total_bytes, usable_bytes, is_cordoned }
            describe_log_dirs::DescribeLogDirsTopic { name, partitions }
            describe_log_dirs::DescribeLogDirsPartition { partition_index, partition_size, offset_lag, is_future_key }
            describe_quorum::DescribeQuorumRequest { topics }
            describe_quorum::TopicRequest { topic_name, partitions }
            describe_quorum::PartitionRequest { partition_index }
            describe_quorum::DescribeQuorumResponse { error_code, error_message, topics, nodes }
            describe_quorum::TopicData { topic_name, partitions }
            describe_quorum::PartitionData { partition_index, error_code, error_message, leader_id, leader_epoch, high_watermark, current_voters, observers }
            describe_quorum::ReplicaState { replica_id, replica_directory_id, log_end_offset, last_fetch_timestamp, last_caught_up_timestamp }
            describe_quorum::Node { node_id, listeners }
            describe_quorum::Listener { name, host, port }
            describe_topic_partitions::DescribeTopicPartitionsRequest { topics, response_partition_limit, cursor }
            describe_topic_partitions::TopicRequest { name }
            describe_topic_partitions::Cursor { topic_name, partition_index }
            describe_topic_partitions::DescribeTopicPartitionsResponse { throttle_time_ms, topics, next_cursor }
            describe_topic_partitions::DescribeTopicPartitionsResponseTopic { error_code, name, topic_id, is_internal, partitions, topic_authorized_operations }
            describe_topic_partitions::DescribeTopicPartitionsResponsePartition { error_code, partition_index, leader_id, leader_epoch, replica_nodes, isr_nodes, eligible_leader_replicas, last_known_elr, offline_replicas }
            elect_leaders::ElectLeadersRequest { election_type, topic_partitions, timeout_ms }
            elect_leaders::TopicPartitions { topic, partitions }
            elect_leaders::ElectLeadersResponse { throttle_time_ms, error_code, replica_election_results }
            elect_leaders::ReplicaElectionResult { topic, partition_result }
            elect_leaders::PartitionResult { partition_id, error_code, error_message }
            incremental_alter_configs::IncrementalAlterConfigsRequest { resources, validate_only }
            incremental_alter_configs::AlterConfigsResource { resource_type, resource_name, configs }
            incremental_alter_configs::AlterableConfig { name, config_operation, value }
            incremental_alter_configs::IncrementalAlterConfigsResponse { throttle_time_ms, responses }
            incremental_alter_configs::AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name }
            list_config_resources::ListConfigResourcesRequest { resource_types }
            list_config_resources::ListConfigResourcesResponse { throttle_time_ms, error_code, config_resources }
            list_config_resources::ConfigResource { resource_name, resource_type }
            list_partition_reassignments::ListPartitionReassignmentsRequest { timeout_ms, topics }
            list_partition_reassignments::ListPartitionReassignmentsTopics { name, partition_indexes }
            list_partition_reassignments::ListPartitionReassignmentsResponse { throttle_time_ms, error_code, error_message, topics }
            list_partition_reassignments::OngoingTopicReassignment { name, partitions }
            list_partition_reassignments::OngoingPartitionReassignment { partition_index, replicas, adding_replicas, removing_replicas }
            describe_cluster::DescribeClusterRequest {
                include_cluster_authorized_operations, endpoint_type, include_fenced_brokers
            }
            describe_cluster::DescribeClusterResponse {
                throttle_time_ms, error_code, error_message, endpoint_type, cluster_id,
                controller_id, brokers, cluster_authorized_operations
            }
            describe_cluster::DescribeClusterBroker { broker_id, host, port, rack, is_fenced }
            describe_groups::DescribeGroupsRequest { groups, include_authorized_operations }
            describe_groups::DescribeGroupsResponse { throttle_time_ms, groups }
            describe_groups::DescribedGroup {
                error_code, error_message, group_id, group_state, protocol_type, protocol_data,
                members, authorized_operations
            }
            describe_groups::DescribedGroupMember {
                member_id, group_instance_id, client_id, client_host, member_metadata,
                member_assignment
            }
            describe_producers::DescribeProducersRequest { topics }
            describe_producers::DescribeProducersTopic { name, partition_indexes }
            describe_producers::DescribeProducersResponse { throttle_time_ms, topics }
            describe_producers::DescribeProducersTopicResponse { name, partitions }
            describe_producers::DescribeProducersPartitionResponse {
                partition_index, error_code, error_message, active_producers
            }
            describe_producers::ProducerState {
                producer_id, producer_epoch, last_sequence, last_timestamp, coordinator_epoch,
                current_txn_start_offset
            }
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
            find_coordinator::FindCoordinatorRequest { key, key_type, coordinator_keys }
            find_coordinator::FindCoordinatorResponse {
                throttle_time_ms, error_code, error_message, node_id, host, port, coordinators
            }
            find_coordinator::Coordinator { key, node_id, host, port, error_code, error_message }
            heartbeat::HeartbeatRequest { group_id, generation_id, member_id, group_instance_id }
            heartbeat::HeartbeatResponse { throttle_time_ms, error_code }
            join_group::JoinGroupRequest {
                group_id, session_timeout_ms, rebalance_timeout_ms, member_id, group_instance_id,
                protocol_type, protocols, reason
            }
            join_group::JoinGroupRequestProtocol { name, metadata }
            join_group::JoinGroupResponse {
                throttle_time_ms, error_code, generation_id, protocol_type, protocol_name, leader,
                skip_assignment, member_id, members
            }
            join_group::JoinGroupResponseMember { member_id, group_instance_id, metadata }
            leave_group::LeaveGroupRequest { group_id, member_id, members }
            leave_group::MemberIdentity { member_id, group_instance_id, reason }
            leave_group::LeaveGroupResponse { throttle_time_ms, error_code, members }
            leave_group::MemberResponse { member_id, group_instance_id, error_code }
            list_groups::ListGroupsRequest { states_filter, types_filter }
            list_groups::ListGroupsResponse { throttle_time_ms, error_code, groups }
            list_groups::ListedGroup { group_id, protocol_type, group_state, group_type }
            init_producer_id::InitProducerIdRequest {
                transactional_id, transaction_timeout_ms, producer_id, producer_epoch
            }
            init_producer_id::InitProducerIdResponse {
                throttle_time_ms, error_code, producer_id, producer_epoch
            }
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
            offset_commit::OffsetCommitRequest {
                group_id, generation_id_or_member_epoch, member_id, group_instance_id,
                retention_time_ms, topics
            }
            offset_commit::OffsetCommitRequestTopic { name, topic_id, partitions }
            offset_commit::OffsetCommitRequestPartition {
                partition_index, committed_offset, committed_leader_epoch, committed_metadata
            }
            offset_commit::OffsetCommitResponse { throttle_time_ms, topics }
            offset_commit::OffsetCommitResponseTopic { name, topic_id, partitions }
            offset_commit::OffsetCommitResponsePartition { partition_index, error_code }
            offset_delete::OffsetDeleteRequest { group_id, topics }
            offset_delete::OffsetDeleteRequestTopic { name, partitions }
            offset_delete::OffsetDeleteRequestPartition { partition_index }
            offset_delete::OffsetDeleteResponse { error_code, throttle_time_ms, topics }
            offset_delete::OffsetDeleteResponseTopic { name, partitions }
            offset_delete::OffsetDeleteResponsePartition { partition_index, error_code }
            offset_fetch::OffsetFetchRequest { group_id, topics, groups, require_stable }
            offset_fetch::OffsetFetchRequestTopic { name, partition_indexes }
            offset_fetch::OffsetFetchRequestGroup { group_id, member_id, member_epoch, topics }
            offset_fetch::OffsetFetchRequestTopics { name, topic_id, partition_indexes }
            offset_fetch::OffsetFetchResponse { throttle_time_ms, topics, error_code, groups }
            offset_fetch::OffsetFetchResponseTopic { name, partitions }
            offset_fetch::OffsetFetchResponsePartition {
                partition_index, committed_offset, committed_leader_epoch, metadata, error_code
            }
            offset_fetch::OffsetFetchResponseGroup { group_id, topics, error_code }
            offset_fetch::OffsetFetchResponseTopics { name, topic_id, partitions }
            offset_fetch::OffsetFetchResponsePartitions {
                partition_index, committed_offset, committed_leader_epoch, metadata, error_code
            }
            offset_for_leader_epoch::OffsetForLeaderEpochRequest { replica_id, topics }
            offset_for_leader_epoch::OffsetForLeaderTopic { topic, partitions }
            offset_for_leader_epoch::OffsetForLeaderPartition {
                partition, current_leader_epoch, leader_epoch
            }
            offset_for_leader_epoch::OffsetForLeaderEpochResponse { throttle_time_ms, topics }
            offset_for_leader_epoch::OffsetForLeaderTopicResult { topic, partitions }
            offset_for_leader_epoch::EpochEndOffset {
                error_code, partition, leader_epoch, end_offset
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
            sync_group::SyncGroupRequest {
                group_id, generation_id, member_id, group_instance_id, protocol_type,
                protocol_name, assignments
            }
            sync_group::SyncGroupRequestAssignment { member_id, assignment }
            sync_group::SyncGroupResponse {
                throttle_time_ms, error_code, protocol_type, protocol_name, assignment
            }
        }
    };
}

/// Calls `$each!` with every API.
macro_rules! for_each_api {
    ($each:ident) => {
        $each! {
            AlterConfigs AlterPartitionReassignments ApiVersions CreatePartitions CreateTopics
            DeleteGroups DeleteRecords DeleteTopics DescribeCluster DescribeConfigs DescribeGroups
            DescribeLogDirs DescribeProducers DescribeQuorum DescribeTopicPartitions ElectLeaders
            Fetch FindCoordinator Heartbeat IncrementalAlterConfigs InitProducerId JoinGroup
            LeaveGroup ListConfigResources ListGroups ListOffsets ListPartitionReassignments
            Metadata OffsetCommit OffsetDelete OffsetFetch OffsetForLeaderEpoch Produce SyncGroup
        }
    };
}
