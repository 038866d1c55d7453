//! Frames that lie: whatever the bytes, the codec returns, without a panic, and allocates no more than a
//! small multiple of the frame.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::error::Error;

use bytes::{BufMut, Bytes, BytesMut};
use millstream::limits::{DECODED_BYTES_BASE, DECODED_BYTES_PER_FRAME_BYTE, TAGGED_FIELDS_MAX};
use millstream::protocol::{ApiKey, Reader, Response, ResponseHeader, SUPPORTED, decode_request};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[expect(dead_code, reason = "what was put into the frames does not matter here")]
#[path = "wire/golden.rs"]
mod golden;

use golden::{Golden, golden_frames};

type Result = std::result::Result<(), Box<dyn Error>>;

/// Counts the bytes that the current thread asks for.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    // A thread that is ending has no counter any more and measures nothing.
    let _ = ALLOCATED.try_with(|allocated| allocated.set(allocated.get() + bytes));
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What decoding a frame may allocate in all, whatever it holds. An array's elements are larger in memory
/// than on the wire, 32 bytes for an empty string of one byte being the worst, and a growing array is
/// allocated anew twice as large until it fits: together less than 64 for a byte. Long frames meet the
/// budget before. The rest is the counter of a shared frame and the first growth of some arrays.
fn allocated_max(frame_len: usize) -> usize {
    let budget = DECODED_BYTES_BASE + DECODED_BYTES_PER_FRAME_BYTE * frame_len;
    (4096 + 64 * frame_len).min(frame_len + 2 * budget)
}

/// Decodes the frame as what the golden one was; says whether that succeeded and what it allocated.
fn decode(golden: &Golden, frame: Bytes) -> (bool, usize) {
    let before = ALLOCATED.get();
    let decoded = if golden.request {
        decode_request(frame).is_ok()
    } else {
        golden.key.version(golden.version).is_some_and(|version| {
            let mut reader = Reader::new(frame);
            ResponseHeader::decode(&mut reader, golden.key, version).is_ok()
                && Response::decode(golden.key, &mut reader, version).is_ok()
        })
    };
    (decoded, ALLOCATED.get() - before)
}

fn check(golden: &Golden, bytes: &[u8], what: &dyn std::fmt::Display) -> bool {
    let frame = Bytes::copy_from_slice(bytes);
    let (decoded, allocated) = decode(golden, frame);
    assert!(
        allocated <= allocated_max(bytes.len()),
        "{:?} {} {} request: {}, {what}: {allocated} bytes for a frame of {}",
        golden.key,
        golden.version,
        golden.shape,
        golden.request,
        bytes.len(),
    );
    decoded
}

#[test]
fn every_truncation_is_an_error() -> Result {
    for golden in golden_frames()? {
        for len in 0..golden.frame.len() {
            let cut = golden.frame.get(..len).ok_or("range")?;
            let decoded = check(&golden, cut, &format_args!("cut to {len}"));
            assert!(
                !decoded,
                "{:?} {} cut to {len} of {}",
                golden.key,
                golden.version,
                golden.frame.len()
            );
        }
        assert!(check(&golden, &golden.frame, &"whole"));
    }
    Ok(())
}

#[test]
fn changed_bytes_neither_panic_nor_allocate() -> Result {
    let seed = std::env::var("SEED").map_or(Ok(1), |seed| seed.parse())?;
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for golden in golden_frames()? {
        for position in 0..golden.frame.len() {
            let mut bytes = golden.frame.to_vec();
            *bytes.get_mut(position).ok_or("position")? ^= random.random_range(1..=255_u8);
            check(&golden, &bytes, &format_args!("byte {position}, SEED={seed}"));
        }
    }
    Ok(())
}

#[test]
fn lengths_and_counts_that_lie_neither_panic_nor_allocate() -> Result {
    let lies: [&[u8]; 8] = [
        &i32::MAX.to_be_bytes(),
        &i32::MIN.to_be_bytes(),
        &(-2_i32).to_be_bytes(),
        &1_000_000_i32.to_be_bytes(),
        &i16::MAX.to_be_bytes(),
        &i16::MIN.to_be_bytes(),
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0x7f],
    ];
    for golden in golden_frames()? {
        for position in 0..golden.frame.len() {
            for lie in lies {
                let mut bytes = golden.frame.to_vec();
                for (byte, lie) in bytes.iter_mut().skip(position).zip(lie) {
                    *byte = *lie;
                }
                check(&golden, &bytes, &format_args!("{lie:?} at {position}"));
            }
        }
    }
    Ok(())
}

/// Frames that keep their header and announce an array of as many elements as fit, the smallest there are:
/// these decode, and show what a byte on the wire can cost in memory.
#[test]
fn long_frames_of_small_elements_stay_within_the_bound() -> Result {
    const LEN: usize = 60_000;
    let counts: [&[u8]; 4] = [&[], &[0, 0, 0x4e, 0x20], &[0xa1, 0x9c, 0x01], &[0xe1, 0xd4, 0x03]];
    let mut decoded = 0;
    for golden in golden_frames()?.iter().filter(|golden| golden.shape == "empty") {
        let version = golden.key.version(golden.version).ok_or("not served")?;
        let header = if golden.request {
            16 + usize::from(version.flexible)
        } else {
            4 + usize::from(version.flexible && golden.key != ApiKey::ApiVersions)
        };
        let header = golden.frame.get(..header).ok_or("range")?;
        let patterns =
            (0..=255_u8).map(|byte| [byte, byte]).chain([[1, 0], [0, 1], [2, 1], [1, 2]]);
        for (pattern, count) in patterns.flat_map(|pattern| counts.map(|count| (pattern, count))) {
            let frame = [header, count, &pattern.repeat(LEN / 2)].concat();
            decoded += usize::from(check(
                golden,
                &frame,
                &format_args!("{count:?}, then {pattern:?} repeated"),
            ));
        }
    }
    assert!(decoded > 1000, "{decoded}");
    Ok(())
}

/// The header's tagged fields come before any authentication: they are counted, not stored.
#[test]
fn tagged_fields_of_the_header_are_bounded_and_cost_nothing() -> Result {
    let golden = golden_frames()?
        .into_iter()
        .find(|golden| {
            golden.request && golden.version == 4 && golden.key.supported().name == "ApiVersions"
        })
        .ok_or("no frame")?;
    for count in [TAGGED_FIELDS_MAX, TAGGED_FIELDS_MAX + 1, 20_000_000] {
        let mut frame = BytesMut::from(golden.frame.get(..16).ok_or("range")?);
        for shift in [0, 7, 14, 21] {
            let more = if shift < 21 { 0x80 } else { 0 };
            frame.put_u8(u8::try_from((count >> shift) & 0x7f)? | more);
        }
        for _ in 0..count.min(100_000) {
            frame.put_slice(&[9, 1, 0xee]);
        }
        frame.put_slice(&[1, 1, 0]);
        let (decoded, allocated) = decode(&golden, frame.freeze());
        assert_eq!(decoded, count <= TAGGED_FIELDS_MAX);
        assert!(allocated < 256, "{allocated}");
    }
    Ok(())
}

#[test]
fn nothing_but_requests_is_a_request() -> Result {
    let frames: [&[u8]; 7] = [
        b"",
        b"\0",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        &[0xff; 64],
        &[0; 7],
    ];
    for frame in frames {
        assert!(decode_request(Bytes::copy_from_slice(frame)).is_err(), "{frame:?}");
    }
    for api in SUPPORTED {
        for version in [api.min - 1, api.max + 1, i16::MIN, i16::MAX] {
            let mut frame = BytesMut::new();
            frame.put_i16(api.key.number());
            frame.put_i16(version);
            frame.put_bytes(0, 64);
            assert!(decode_request(frame.freeze()).is_err(), "{} {version}", api.name);
        }
    }
    Ok(())
}
