//! Kafka's error codes, all of 4.3, with messages of our own.

use std::fmt;

use super::reader::Reader;
use super::wire::{DecodeError, EncodeError, Field, Version};
use super::writer::Writer;

/// A number that no error code has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownErrorCode(pub i16);

impl fmt::Display for UnknownErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not an error code", self.0)
    }
}

impl std::error::Error for UnknownErrorCode {}

macro_rules! error_codes {
    ($($(#[$attribute:meta])* $name:ident = $number:literal, $message:literal;)+) => {
        /// An error code: Kafka's names, from its class `Errors`.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(
                $(#[$attribute])*
                #[doc = concat!("Code ", stringify!($number), ": ", $message, ".")]
                $name = $number,
            )+
        }

        impl ErrorCode {
            /// All of them, in the order of their numbers.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name),+];

            /// What it means, in a line.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self {
                    $(ErrorCode::$name => $message,)+
                }
            }
        }

        impl From<ErrorCode> for i16 {
            fn from(code: ErrorCode) -> i16 {
                match code {
                    $(ErrorCode::$name => $number,)+
                }
            }
        }

        impl TryFrom<i16> for ErrorCode {
            type Error = UnknownErrorCode;

            fn try_from(number: i16) -> Result<ErrorCode, UnknownErrorCode> {
                match number {
                    $($number => Ok(ErrorCode::$name),)+
                    _ => Err(UnknownErrorCode(number)),
                }
            }
        }
    };
}

error_codes! {
    UnknownServerError = -1, "something unexpected went wrong in the broker";
    #[default] None = 0, "no error";
    OffsetOutOfRange = 1, "the log does not reach from or to this offset";
    CorruptMessage = 2, "the record batch fails its checksum or is not well-formed";
    UnknownTopicOrPartition = 3, "this broker has no such topic or partition";
    InvalidFetchSize = 4, "the fetch size makes no sense";
    LeaderNotAvailable = 5, "the partition has no leader at the moment";
    NotLeaderOrFollower = 6, "this broker does not lead or follow the partition";
    RequestTimedOut = 7, "the request was not done within its timeout";
    BrokerNotAvailable = 8, "the broker is not there";
    ReplicaNotAvailable = 9, "the replica is not there";
    MessageTooLarge = 10, "the record batch is larger than the topic allows";
    StaleControllerEpoch = 11, "the request carries the epoch of an earlier controller";
    OffsetMetadataTooLarge = 12, "the metadata committed with the offset is too long";
    NetworkException = 13, "the connection ended before the answer";
    CoordinatorLoadInProgress = 14, "the coordinator still reads its state";
    CoordinatorNotAvailable = 15, "there is no coordinator at the moment";
    NotCoordinator = 16, "another broker coordinates this group or transactional id";
    InvalidTopicException = 17, "the topic's name is not allowed or not to be used so";
    RecordListTooLarge = 18, "the record batch is larger than a segment";
    NotEnoughReplicas = 19, "too few replicas are in sync to accept the records";
    NotEnoughReplicasAfterAppend = 20, "the records were appended, but too few replicas have them";
    InvalidRequiredAcks = 21, "acks is none of -1, 0 and 1";
    IllegalGeneration = 22, "the group is at another generation";
    InconsistentGroupProtocol = 23, "the member shares no protocol with the rest of its group";
    InvalidGroupId = 24, "the group id is not allowed";
    UnknownMemberId = 25, "the group has no such member";
    InvalidSessionTimeout = 26, "the session timeout is outside the broker's range";
    RebalanceInProgress = 27, "the group rebalances and the member must join again";
    InvalidCommitOffsetSize = 28, "the commit is too large to store";
    TopicAuthorizationFailed = 29, "the principal may not do this to the topic";
    GroupAuthorizationFailed = 30, "the principal may not do this to the group";
    ClusterAuthorizationFailed = 31, "the principal may not do this to the cluster";
    InvalidTimestamp = 32, "the record's timestamp is too far from now";
    UnsupportedSaslMechanism = 33, "the broker does not offer this SASL mechanism";
    IllegalSaslState = 34, "the request does not belong at this point of the authentication";
    UnsupportedVersion = 35, "the API is not served in this version";
    TopicAlreadyExists = 36, "a topic of this name exists";
    InvalidPartitions = 37, "the number of partitions is not allowed";
    InvalidReplicationFactor = 38, "the replication factor is below one or above the number of brokers";
    InvalidReplicaAssignment = 39, "the replica assignment is not allowed";
    InvalidConfig = 40, "a config value is not allowed";
    NotController = 41, "another node is the controller";
    InvalidRequest = 42, "the request contradicts itself or the protocol";
    UnsupportedForMessageFormat = 43, "the record format of the topic cannot do this";
    PolicyViolation = 44, "a policy of the broker forbids this";
    OutOfOrderSequenceNumber = 45, "sequence numbers of the producer are missing before this batch";
    DuplicateSequenceNumber = 46, "the producer's batch was appended before";
    InvalidProducerEpoch = 47, "the producer has an old epoch";
    InvalidTxnState = 48, "the transaction's state does not allow this";
    InvalidProducerIdMapping = 49, "the producer id does not belong to the transactional id";
    InvalidTransactionTimeout = 50, "the transaction timeout is above the broker's maximum";
    ConcurrentTransactions = 51, "another operation on the transactional id is not finished";
    TransactionCoordinatorFenced = 52, "the marker comes from an earlier transaction coordinator";
    TransactionalIdAuthorizationFailed = 53, "the principal may not use the transactional id";
    SecurityDisabled = 54, "the broker runs without this part of security";
    OperationNotAttempted = 55, "an earlier failure in the request stopped this part";
    KafkaStorageError = 56, "the disk failed under the log";
    LogDirNotFound = 57, "the broker has no such log directory";
    SaslAuthenticationFailed = 58, "the credentials were refused";
    UnknownProducerId = 59, "the partition knows nothing of the producer id";
    ReassignmentInProgress = 60, "the partition is being reassigned";
    DelegationTokenAuthDisabled = 61, "delegation tokens are switched off";
    DelegationTokenNotFound = 62, "there is no such delegation token";
    DelegationTokenOwnerMismatch = 63, "the principal neither owns nor may renew the token";
    DelegationTokenRequestNotAllowed = 64, "delegation tokens cannot be asked for over this connection";
    DelegationTokenAuthorizationFailed = 65, "the principal may not do this to the delegation token";
    DelegationTokenExpired = 66, "the delegation token has expired";
    InvalidPrincipalType = 67, "the type of principal is not supported";
    NonEmptyGroup = 68, "the group still has members";
    GroupIdNotFound = 69, "there is no such group";
    FetchSessionIdNotFound = 70, "there is no such fetch session";
    InvalidFetchSessionEpoch = 71, "the fetch session is at another epoch";
    ListenerNotFound = 72, "the leader has no listener like the one asked";
    TopicDeletionDisabled = 73, "deleting topics is switched off";
    FencedLeaderEpoch = 74, "the client's leader epoch is older than the broker's";
    UnknownLeaderEpoch = 75, "the client's leader epoch is newer than the broker's";
    UnsupportedCompressionType = 76, "the client's version cannot read the topic's compression";
    StaleBrokerEpoch = 77, "the broker has registered anew since";
    OffsetNotAvailable = 78, "the new leader does not know its high watermark yet";
    MemberIdRequired = 79, "the member must join again with the member id it was given";
    PreferredLeaderNotAvailable = 80, "the preferred leader is not there";
    GroupMaxSizeReached = 81, "the group has as many members as it may";
    FencedInstanceId = 82, "another member has taken the group instance id";
    EligibleLeadersNotAvailable = 83, "no replica may become leader";
    ElectionNotNeeded = 84, "the partition has the leader it should have";
    NoReassignmentInProgress = 85, "the partition is not being reassigned";
    GroupSubscribedToTopic = 86, "the group still consumes the topic";
    InvalidRecord = 87, "a record breaks a rule of the topic";
    UnstableOffsetCommit = 88, "an open transaction has offsets pending";
    ThrottlingQuotaExceeded = 89, "the quota for changes is used up";
    ProducerFenced = 90, "a newer producer has the transactional id";
    ResourceNotFound = 91, "the request names a resource that does not exist";
    DuplicateResource = 92, "the request names a resource twice";
    UnacceptableCredential = 93, "the credential does not meet the rules";
    InconsistentVoterSet = 94, "sender or recipient is not among the voters";
    InvalidUpdateVersion = 95, "the update carries a wrong version";
    FeatureUpdateFailed = 96, "the finalized features could not be changed";
    PrincipalDeserializationFailure = 97, "the forwarded principal cannot be read";
    SnapshotNotFound = 98, "there is no such snapshot";
    PositionOutOfRange = 99, "the position lies outside of the snapshot";
    UnknownTopicId = 100, "this broker has no topic with this id";
    DuplicateBrokerRegistration = 101, "another broker has this id";
    BrokerIdNotRegistered = 102, "no broker has registered with this id";
    InconsistentTopicId = 103, "the topic id is not the one of the log";
    InconsistentClusterId = 104, "the request is meant for another cluster";
    TransactionalIdNotFound = 105, "there is no such transactional id";
    FetchSessionTopicIdError = 106, "the fetch session mixes topic ids and names";
    IneligibleReplica = 107, "a replica of the new in-sync set may not be in it";
    NewLeaderElected = 108, "the change was made and the partition has another leader now";
    OffsetMovedToTieredStorage = 109, "the offset is in remote storage only";
    FencedMemberEpoch = 110, "the member was fenced and must give up its partitions";
    UnreleasedInstanceId = 111, "the member with this instance id has not left yet";
    UnsupportedAssignor = 112, "the group does not know the assignor";
    StaleMemberEpoch = 113, "the member must learn its new epoch first";
    MismatchedEndpointType = 114, "the request belongs at another kind of endpoint";
    UnsupportedEndpointType = 115, "this kind of endpoint is not supported";
    UnknownControllerId = 116, "there is no such controller";
    UnknownSubscriptionId = 117, "the client must ask for its telemetry subscription again";
    TelemetryTooLarge = 118, "the telemetry is larger than the broker takes";
    InvalidRegistration = 119, "the controller refuses the broker's registration";
    TransactionAbortable = 120, "the transaction must be aborted and the producer may go on";
    InvalidRecordState = 121, "the record is not in a state to be acknowledged";
    ShareSessionNotFound = 122, "there is no such share session";
    InvalidShareSessionEpoch = 123, "the share session is at another epoch";
    FencedStateEpoch = 124, "the share group's state is at another epoch";
    InvalidVoterKey = 125, "the voter's key is not the replica's";
    DuplicateVoter = 126, "the voter is among the voters";
    VoterNotFound = 127, "the voter is not among the voters";
    InvalidRegularExpression = 128, "the regular expression cannot be parsed";
    RebootstrapRequired = 129, "the client must start again from its bootstrap servers";
    StreamsInvalidTopology = 130, "the streams topology is not allowed";
    StreamsInvalidTopologyEpoch = 131, "the streams topology's epoch is not allowed";
    StreamsTopologyFenced = 132, "the streams topology's epoch is old";
    ShareSessionLimitReached = 133, "the broker has as many share sessions as it may";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

/// A code from a newer broker reads as `UnknownServerError`, as in Kafka's clients.
impl Field for ErrorCode {
    fn min_size(_: Version) -> usize {
        2
    }

    fn decode_field(reader: &mut Reader, _: Version, _: bool) -> Result<Self, DecodeError> {
        Ok(ErrorCode::try_from(reader.i16()?).unwrap_or(ErrorCode::UnknownServerError))
    }

    fn encode_field(&self, writer: &mut Writer, _: Version, _: bool) -> Result<(), EncodeError> {
        writer.i16((*self).into());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_round_trip() {
        for (number, code) in (-1..=133).zip(ErrorCode::ALL) {
            assert_eq!(ErrorCode::try_from(number), Ok(*code));
            assert_eq!(i16::from(*code), number);
        }
        assert_eq!(ErrorCode::ALL.len(), 135);
        assert_eq!(ErrorCode::try_from(134), Err(UnknownErrorCode(134)));
        assert_eq!(ErrorCode::default(), ErrorCode::None);
    }
}
