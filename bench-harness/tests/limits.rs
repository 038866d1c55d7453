//! The limits against themselves: every frame arrives unchanged, is written and is answered.

use std::error::Error;
use std::path::Path;

use bench_harness::engine;
use bench_harness::engine::plan::{Plan, ProduceSpec};
use bench_harness::limits::{self, LimitKind, LimitResult, LimitSpec, ProduceSink};

const PROGRAM: &str = env!("CARGO_BIN_EXE_millstream-bench");
const MIB: u64 = 1 << 20;

/// A directory beside the binary: the usual temporary one may be a tmpfs, which direct I/O does not
/// mean anything on.
fn directory() -> Result<tempfile::TempDir, Box<dyn Error>> {
    Ok(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

fn run(
    kind: LimitKind,
    frame_bytes: usize,
    connections: usize,
) -> Result<LimitResult, Box<dyn Error>> {
    let directory = directory()?;
    let file =
        kind.needs_file().then(|| limits::prepare_file(directory.path(), 8 * MIB)).transpose()?;
    let spec = LimitSpec {
        file,
        memory_bytes: 4 << 20,
        ..LimitSpec::new(kind, frame_bytes, connections, 20 * MIB)
    };
    Ok(limits::run(&spec, Path::new(PROGRAM))?)
}

fn kind_writes(kind: LimitKind) -> bool {
    matches!(kind, LimitKind::Ingest | LimitKind::SinkCrcWrite)
}

#[test]
fn ingest_writes_and_acknowledges_every_frame() -> Result<(), Box<dyn Error>> {
    // Sizes that fill a piece evenly, that straddle pieces, and that are larger than a piece.
    for (frame_bytes, connections) in
        [(64 << 10, 4), (100_000, 3), (1 << 20, 16), (3_000_001, 2), (500, 1)]
    {
        let result = run(LimitKind::Ingest, frame_bytes, connections)?;
        let per_connection = (20 * MIB).div_ceil((frame_bytes * connections) as u64);
        assert_eq!(result.frames, per_connection * connections as u64, "{frame_bytes}");
        assert_eq!(result.answers, result.frames, "{frame_bytes}");
        assert!(
            result.writes >= result.bytes.div_ceil(MIB),
            "{frame_bytes}: {} writes",
            result.writes
        );
    }
    Ok(())
}

#[test]
fn stages_without_answers_take_every_frame() -> Result<(), Box<dyn Error>> {
    for kind in [LimitKind::Sink, LimitKind::SinkCrc, LimitKind::SinkCrcWrite] {
        let result = run(kind, 64 << 10, 4)?;
        assert_eq!((result.frames, result.answers), (320, 0), "{kind:?}");
        assert_eq!(result.writes > 0, kind_writes(kind), "{kind:?}");
    }
    Ok(())
}

#[test]
fn a_flush_covers_every_frame_before_its_answer() -> Result<(), Box<dyn Error>> {
    for (frame_bytes, connections) in [(64 << 10, 4), (100_000, 3), (1 << 20, 16)] {
        let result = run(LimitKind::IngestFlush, frame_bytes, connections)?;
        assert_eq!(result.answers, result.frames, "{frame_bytes}");
        assert!(result.writes > 0);
    }
    Ok(())
}

#[test]
fn files_are_sent_whole_either_way() -> Result<(), Box<dyn Error>> {
    for kind in [LimitKind::SendFile, LimitKind::DirectReadToSocket] {
        for (frame_bytes, connections) in [(64 << 10, 4), (1 << 20, 3), (100_001, 2)] {
            let result = run(kind, frame_bytes, connections)?;
            assert_eq!(result.answers, result.frames, "{kind:?} {frame_bytes}");
            assert_eq!(result.bytes, result.answers * frame_bytes as u64);
        }
    }
    Ok(())
}

#[test]
fn the_disk_alone_is_timed() -> Result<(), Box<dyn Error>> {
    for kind in [LimitKind::Write4k, LimitKind::Write4kFlush] {
        let result = run(kind, 4096, 1)?;
        assert_eq!(result.latency.map(|l| l.count), Some(result.writes), "{kind:?}");
        assert!(result.writes > 0);
    }
    Ok(())
}

#[test]
fn the_sink_takes_what_the_generator_sends() -> Result<(), Box<dyn Error>> {
    let sink = ProduceSink::start(None, Path::new(PROGRAM))?;
    let spec = ProduceSpec { bytes: Some(20 * MIB), ..ProduceSpec::new("sink") };
    let result = engine::run(&Plan::produce(&sink.address(), spec), &mut |_| ())?;
    assert!(result.is_clean() && result.produced.bytes >= 20 * MIB, "{result:?}");
    Ok(sink.stop()?)
}

#[test]
fn memory_to_socket_and_echo_answer_every_request() -> Result<(), Box<dyn Error>> {
    for kind in [LimitKind::MemoryToSocket, LimitKind::Echo] {
        for frame_bytes in [100, 64 << 10, 1 << 20] {
            let spec = LimitSpec {
                memory_bytes: 4 << 20,
                ..LimitSpec::new(kind, frame_bytes, 4, frame_bytes as u64 * 40)
            };
            let result = limits::run(&spec, Path::new(PROGRAM))?;
            assert_eq!((result.frames, result.answers), (40, 40), "{kind:?} {frame_bytes}");
            assert_eq!(result.latency.map(|l| l.count), Some(40));
        }
    }
    Ok(())
}

#[test]
fn a_limit_without_its_file_is_refused() {
    let spec = LimitSpec::new(LimitKind::Ingest, 4096, 1, MIB);
    assert!(limits::run(&spec, Path::new(PROGRAM)).is_err());
}
