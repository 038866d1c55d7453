//! The codec against frames that Kafka's own message classes made: every API, every version served, both
//! directions (`data/wire/generator/README.md`).

use std::error::Error;

use bytes::Bytes;
use millstream::protocol::messages::*;
use millstream::protocol::{
    ApiKey, EncodeError, ErrorCode, Reader, Records, Request, Response, ResponseHeader, SUPPORTED,
    Segment, StrBytes, Version, Writer, decode_request, decode_response, encode_response,
};
use millstream::types::Uuid;
use serde_json::Value;

#[macro_use]
#[path = "wire/fields.rs"]
mod fields;
#[path = "wire/golden.rs"]
mod golden;

use golden::{Golden, bytes_of_hex, golden_frames};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

#[test]
fn every_version_served_has_its_frames() -> Result {
    let frames = golden_frames()?;
    let mut expected = 0;
    for api in SUPPORTED {
        for version in api.min..=api.max {
            for (request, shape) in [true, false]
                .into_iter()
                .flat_map(|request| ["full", "null", "empty"].map(|shape| (request, shape)))
            {
                let found = frames.iter().filter(|frame| {
                    (frame.key, frame.version, frame.request, frame.shape.as_str())
                        == (api.key, version, request, shape)
                });
                assert_eq!(found.count(), 1, "{} {version} {shape}, request: {request}", api.name);
                expected += 1;
            }
        }
    }
    assert_eq!(frames.len(), expected);
    Ok(())
}

#[test]
fn frames_decode_to_what_was_put_in_and_encode_to_the_same_bytes() -> Result {
    for golden in golden_frames()? {
        let place = format!(
            "{:?} {} {} request: {}",
            golden.key, golden.version, golden.shape, golden.request
        );
        let encoded = if golden.request { request(&golden) } else { response(&golden) };
        let encoded = encoded.map_err(|error| format!("{place}: {error}"))?;
        assert_eq!(encoded, golden.frame, "{place}");
    }
    Ok(())
}

fn request(golden: &Golden) -> Result<Bytes> {
    let (header, request) = decode_request(golden.frame.clone())?;
    let client_id = (golden.shape != "null").then(|| StrBytes::from("golden"));
    assert_eq!((header.api_key, header.api_version.number), (golden.key, golden.version));
    assert_eq!((header.correlation_id, &header.client_id), (correlation_id(golden), &client_id));
    let told = Told { version: header.api_version, nulls: golden.shape == "null" };
    macro_rules! compare {
        ($($api:ident)+) => {
            match &request { $(Request::$api(request) => request.compare(&golden.json, told)?,)+ }
        };
    }
    for_each_api!(compare);
    let mut writer = Writer::new();
    header.encode(&mut writer)?;
    request.encode(&mut writer, header.api_version)?;
    Ok(writer.into_bytes()?)
}

fn response(golden: &Golden) -> Result<Bytes> {
    let version = golden.key.version(golden.version).ok_or("not served")?;
    let mut reader = Reader::new(golden.frame.clone());
    let header = ResponseHeader::decode(&mut reader, golden.key, version)?;
    assert_eq!(header.correlation_id, correlation_id(golden));
    let response = Response::decode(golden.key, &mut reader, version)?;
    assert_eq!(reader.remaining(), 0);
    let told = Told { version, nulls: golden.shape == "null" };
    macro_rules! compare {
        ($($api:ident)+) => {
            match &response { $(Response::$api(response) => response.compare(&golden.json, told)?,)+ }
        };
    }
    for_each_api!(compare);
    let frame = encode_response(header.correlation_id, version, &response)?.into_bytes()?;
    Ok(frame.slice(4..))
}

/// The generator numbers its frames so.
fn correlation_id(golden: &Golden) -> i32 {
    1000 * i32::from(golden.key.number()) + i32::from(golden.version)
}

/// What is known of the frame a value comes from.
#[derive(Clone, Copy)]
struct Told {
    version: Version,
    /// Everything that may be null is, so that what is not null must not be.
    nulls: bool,
}

/// Comparing a decoded value with the json of what the generator put in.
trait Compare: Sized {
    fn compare(&self, json: &Value, told: Told) -> Result;

    /// The type's null, if it has one.
    fn null() -> Option<Self> {
        None
    }
}

fn equal(equal: bool, value: &dyn std::fmt::Debug, json: &Value) -> Result {
    if equal { Ok(()) } else { Err(format!("{value:?} is not {json}").into()) }
}

macro_rules! compare_integers {
    ($($type:ident)+) => {$(
        impl Compare for $type {
            fn compare(&self, json: &Value, _: Told) -> Result {
                equal(json.as_i64() == Some(i64::from(*self)), self, json)
            }
        }
    )+};
}
compare_integers!(i8 i16 u16 i32 i64);

impl Compare for bool {
    fn compare(&self, json: &Value, _: Told) -> Result {
        equal(json.as_bool() == Some(*self), self, json)
    }
}

impl Compare for ErrorCode {
    fn compare(&self, json: &Value, told: Told) -> Result {
        i16::from(*self).compare(json, told)
    }
}

impl Compare for Uuid {
    fn compare(&self, json: &Value, _: Told) -> Result {
        equal(json.as_str() == Some(&self.simple().to_string()), self, json)
    }
}

impl Compare for StrBytes {
    fn compare(&self, json: &Value, _: Told) -> Result {
        equal(json.as_str() == Some(self), self, json)
    }
}

impl Compare for Bytes {
    fn compare(&self, json: &Value, _: Told) -> Result {
        let expected = json.as_str().map(bytes_of_hex).transpose()?;
        equal(expected.as_ref() == Some(self), self, json)
    }
}

impl Compare for Records {
    fn compare(&self, json: &Value, told: Told) -> Result {
        self.as_inline().ok_or("external")?.compare(json, told)
    }
}

impl<T: Compare + std::fmt::Debug> Compare for Option<T> {
    fn compare(&self, json: &Value, told: Told) -> Result {
        match self {
            Some(value) => value.compare(json, told),
            None => equal(json.is_null(), self, json),
        }
    }

    fn null() -> Option<Self> {
        Some(None)
    }
}

impl<T: Compare + std::fmt::Debug> Compare for Vec<T> {
    fn compare(&self, json: &Value, told: Told) -> Result {
        let elements = json.as_array().ok_or_else(|| format!("{self:?} is not {json}"))?;
        equal(elements.len() == self.len(), self, json)?;
        self.iter().zip(elements).try_for_each(|(element, json)| element.compare(json, told))
    }
}

/// A field that the json lacks is not in that version, or tagged and not set: it must have its default.
macro_rules! compare_structs {
    ($($module:ident::$struct:ident { $($field:ident),+ })+) => {$(
        impl Compare for $module::$struct {
            fn compare(&self, json: &Value, told: Told) -> Result {
                let default = Self::default();
                let mut known = 0;
                $(
                    if let Some(json) = json.get(camel(stringify!($field))) {
                        self.$field
                            .compare(json, told)
                            .map_err(|error| format!("{}: {error}", stringify!($field)))?;
                        known += 1;
                        if let (true, Some(null)) = (told.nulls, Compare::null()) {
                            let mut with_null = self.clone();
                            with_null.$field = null;
                            let encoded = with_null.encode(&mut Writer::new(), told.version);
                            let field = concat!(stringify!($struct), ".", stringify!($field));
                            let refused = encoded == Err(EncodeError::UnexpectedNull { field });
                            equal(refused != json.is_null(), &encoded, json)?;
                        }
                    } else if self.$field != default.$field {
                        return Err(concat!(stringify!($field), " should have its default").into());
                    }
                )+
                equal(json.as_object().map(|object| object.len()) == Some(known), self, json)
            }
        }
    )+};
}
for_each_struct!(compare_structs);

/// `throttle_time_ms` as `throttleTimeMs`.
fn camel(name: &str) -> String {
    let mut camel = String::new();
    for (i, word) in name.split('_').enumerate() {
        let (first, rest) = word.split_at(1);
        camel += &if i == 0 { first.to_owned() } else { first.to_uppercase() };
        camel += rest;
    }
    camel
}

#[test]
fn decoded_records_point_into_the_frame() -> Result {
    let frames = golden_frames()?;
    let golden =
        frames.iter().find(|golden| golden.request && golden.shape == "full").ok_or("no frame")?;
    let Request::Produce(ProduceRequest { topic_data, .. }) =
        decode_request(golden.frame.clone())?.1
    else {
        return Err("the first API is not Produce".into());
    };
    let records =
        topic_data.iter().flat_map(|topic| &topic.partition_data).flat_map(|data| &data.records);
    for records in records {
        let frame = golden.frame.as_ptr_range();
        assert!(frame.contains(&records.as_ptr()) && !records.is_empty());
    }
    Ok(())
}

/// The broker sends records from its own buffers: the frame it sends in pieces is the same, for every version.
#[test]
fn external_records_make_the_same_frame() -> Result {
    let mut spliced = 0;
    for golden in
        golden_frames()?.iter().filter(|golden| !golden.request && golden.key == ApiKey::Fetch)
    {
        let version = golden.key.version(golden.version).ok_or("not served")?;
        let (header, mut response) =
            decode_response::<FetchResponse>(version, golden.frame.clone())?;
        let mut buffers = Vec::new();
        for data in response.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
            if let Some(records) = &mut data.records {
                let external = Records::External { token: buffers.len(), len: records.len() };
                buffers.push(records.as_inline().cloned().ok_or("external")?);
                *records = external;
            }
        }
        let frame = encode_response(header.correlation_id, version, &response.into())?;
        let mut sent = Vec::new();
        for segment in &frame.segments {
            match segment {
                Segment::Inline(bytes) => sent.extend_from_slice(bytes),
                Segment::External { token, len } => {
                    let buffer = buffers.get(*token).ok_or("token")?;
                    assert_eq!(buffer.len(), *len);
                    sent.extend_from_slice(buffer);
                    spliced += 1;
                }
            }
        }
        assert_eq!(sent.len(), frame.len);
        assert_eq!(sent.get(4..), Some(golden.frame.as_ref()), "{}", golden.version);
    }
    // Four partitions in each version from 4 to 18.
    assert_eq!(spliced, 4 * 15);
    Ok(())
}
