//! The codec against another implementation, kafka-protocol 0.18 (the schemas of Kafka 4.1): whatever our
//! structs hold, both read and write the same bytes. Every API and version that both know, both directions.

use std::error::Error;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{RequestKind, ResponseKind};
use millstream::protocol::messages::*;
use millstream::protocol::{
    ApiKey, EncodeError, ErrorCode, Reader, Records, Request, Response, SUPPORTED, StrBytes,
    Supported, Writer,
};
use millstream::types::Uuid;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[macro_use]
#[path = "wire/fields.rs"]
mod fields;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Cases per test; each case goes through all versions of all APIs, about 100 of them.
const CASES: u32 = 1024;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    #[test]
    fn requests_agree(seed: u64) {
        for (api, number) in shared_versions() {
            let checked = check_request(api.key, number, seed);
            prop_assert!(checked.is_ok(), "{} request {number}: {:?}", api.name, checked);
        }
    }

    #[test]
    fn responses_agree(seed: u64) {
        for (api, number) in shared_versions() {
            let checked = check_response(api.key, number, seed);
            prop_assert!(checked.is_ok(), "{} response {number}: {:?}", api.name, checked);
        }
    }
}

#[test]
fn the_other_implementation_knows_all_but_the_newest_versions() {
    let served: i16 = SUPPORTED.iter().map(|api| api.max - api.min + 1).sum();
    // ListOffsets 11 came with Kafka 4.2, DescribeLogDirs 5 after it.
    assert_eq!(shared_versions().count() + CLAIMED.len(), usize::try_from(served).unwrap() - 2);
}

/// Versions that its list of APIs names and its requests refuse: those with topic ids (KIP-848).
const CLAIMED: [(ApiKey, i16); 2] = [(ApiKey::OffsetCommit, 10), (ApiKey::OffsetFetch, 10)];

/// Every version that both serve.
fn shared_versions() -> impl Iterator<Item = (&'static Supported, i16)> {
    SUPPORTED.iter().flat_map(|api| {
        let theirs = theirs(api.key).map(|key| key.valid_versions());
        let shared = move |number: &i16| {
            theirs.is_ok_and(|range| (range.min..=range.max).contains(number))
                && !CLAIMED.contains(&(api.key, *number))
        };
        (api.min..=api.max).filter(shared).map(move |number| (api, number))
    })
}

fn theirs(key: ApiKey) -> std::result::Result<kafka_protocol::messages::ApiKey, ()> {
    kafka_protocol::messages::ApiKey::try_from(key.number())
}

/// A check of one API's requests, or responses, in one version: our bytes are read and written again by
/// them, and by us.
macro_rules! agreement {
    ($check:ident, $ours:ident, $theirs:ident, $($api:ident)+) => {
        fn $check(key: ApiKey, number: i16, seed: u64) -> Result {
            let version = key.version(number).ok_or("not served")?;
            let random = |source: &mut Source| match key {
                $(ApiKey::$api => $ours::$api(Random::random(source)),)+
            };
            let bytes = encode_random(seed, random, |message, writer| message.encode(writer, version))?;

            let mut rest = bytes.clone();
            let read = $theirs::decode(theirs(key).map_err(|()| "unknown")?, &mut rest, number)?;
            assert!(rest.is_empty(), "{} bytes left", rest.len());
            let mut written = BytesMut::new();
            read.encode(&mut written, number)?;
            assert_eq!(written, bytes);

            let mut reader = Reader::new(bytes.clone());
            let read = $ours::decode(key, &mut reader, version)?;
            assert_eq!(reader.remaining(), 0);
            let mut writer = Writer::new();
            read.encode(&mut writer, version)?;
            assert_eq!(writer.into_bytes()?, bytes);
            assert_eq!($ours::decode(key, &mut Reader::new(written.freeze()), version)?, read);
            Ok(())
        }
    };
}

macro_rules! agreements {
    ($($api:ident)+) => {
        agreement!(check_request, Request, RequestKind, $($api)+);
        agreement!(check_response, Response, ResponseKind, $($api)+);
    };
}
for_each_api!(agreements);

/// The bytes of a random message, one without nulls if the version has none for a field that got one.
fn encode_random<T>(
    seed: u64,
    make: impl Fn(&mut Source) -> T,
    encode: impl Fn(&T, &mut Writer) -> std::result::Result<(), EncodeError>,
) -> Result<Bytes> {
    for nulls in [true, false] {
        let message = make(&mut Source { random: StdRng::seed_from_u64(seed), nulls });
        let mut writer = Writer::new();
        match encode(&message, &mut writer) {
            Err(EncodeError::UnexpectedNull { .. }) if nulls => {}
            Err(error) => return Err(error.into()),
            Ok(()) => return Ok(writer.into_bytes()?),
        }
    }
    Err("null in a message without nulls".into())
}

/// In its newest version a message loses nothing but the fields that version dropped, which are at their
/// defaults here: what is decoded is what was encoded.
#[test]
fn nothing_is_lost_in_the_newest_version() -> Result {
    for seed in 0..u64::from(CASES) {
        let mut source = Source { random: StdRng::seed_from_u64(seed), nulls: true };
        let mut request = fetch::FetchRequest::random(&mut source);
        request.replica_id = fetch::FetchRequest::default().replica_id;
        request.topics.iter_mut().for_each(|topic| topic.topic = StrBytes::default());
        request
            .forgotten_topics_data
            .iter_mut()
            .for_each(|topic| topic.topic = StrBytes::default());
        let mut response = fetch::FetchResponse::random(&mut source);
        response.responses.iter_mut().for_each(|topic| topic.topic = StrBytes::default());
        let mut metadata = metadata::MetadataResponse::random(&mut source);
        metadata.cluster_authorized_operations = i32::MIN;

        let request = Request::from(request);
        let version = request.key().version(request.key().supported().max).ok_or("version")?;
        let mut writer = Writer::new();
        request.encode(&mut writer, version)?;
        assert_eq!(
            Request::decode(request.key(), &mut Reader::new(writer.into_bytes()?), version)?,
            request
        );
        for response in [Response::from(response), metadata.into()] {
            let version =
                response.key().version(response.key().supported().max).ok_or("version")?;
            let mut writer = Writer::new();
            response.encode(&mut writer, version)?;
            let mut reader = Reader::new(writer.into_bytes()?);
            assert_eq!(Response::decode(response.key(), &mut reader, version)?, response);
        }
    }
    Ok(())
}

/// Where random values come from.
struct Source {
    random: StdRng,
    nulls: bool,
}

trait Random {
    fn random(source: &mut Source) -> Self;
}

/// Small and extreme numbers as often as any others.
macro_rules! random_integers {
    ($($type:ident)+) => {$(
        impl Random for $type {
            fn random(source: &mut Source) -> Self {
                match source.random.random_range(0..4) {
                    0 => [$type::MIN, -1, 0, $type::MAX][source.random.random_range(0..4)],
                    1 => source.random.random_range(-2..100),
                    _ => source.random.random(),
                }
            }
        }
    )+};
}
random_integers!(i8 i16 i32 i64);

impl Random for u16 {
    fn random(source: &mut Source) -> Self {
        source.random.random()
    }
}

impl Random for bool {
    fn random(source: &mut Source) -> Self {
        source.random.random()
    }
}

impl Random for ErrorCode {
    fn random(source: &mut Source) -> Self {
        ErrorCode::ALL[source.random.random_range(0..ErrorCode::ALL.len())]
    }
}

impl Random for Uuid {
    fn random(source: &mut Source) -> Self {
        Uuid::from_u128(if bool::random(source) { source.random.random() } else { 0 })
    }
}

/// Lengths around the place where a varint gets its second byte, now and then.
fn random_len(source: &mut Source) -> usize {
    match source.random.random_range(0..20) {
        0 => source.random.random_range(120..140),
        1..=3 => 0,
        _ => source.random.random_range(1..12),
    }
}

impl Random for StrBytes {
    fn random(source: &mut Source) -> Self {
        let len = random_len(source);
        (0..len).map(|_| source.random.random::<char>()).collect::<String>().into()
    }
}

impl Random for Bytes {
    fn random(source: &mut Source) -> Self {
        // Past the size from which the writer shares bytes, now and then.
        let len = if source.random.random_range(0..10) == 0 { 2000 } else { random_len(source) };
        (0..len).map(|_| source.random.random::<u8>()).collect()
    }
}

impl Random for Records {
    fn random(source: &mut Source) -> Self {
        Bytes::random(source).into()
    }
}

impl<T: Random> Random for Option<T> {
    fn random(source: &mut Source) -> Self {
        let null = source.nulls && source.random.random_range(0..4) == 0;
        (!null).then(|| T::random(source))
    }
}

impl<T: Random> Random for Vec<T> {
    fn random(source: &mut Source) -> Self {
        let len = source.random.random_range(0..4);
        (0..len).map(|_| T::random(source)).collect()
    }
}

macro_rules! random_structs {
    ($($module:ident::$struct:ident { $($field:ident),+ })+) => {$(
        impl Random for $module::$struct {
            fn random(source: &mut Source) -> Self {
                // Half of them plain, so that tagged fields are often at their defaults.
                let plain = source.random.random_range(0..8) == 0;
                if plain { Self::default() } else { Self { $($field: Random::random(source)),+ } }
            }
        }
    )+};
}
for_each_struct!(random_structs);
