//! What one batch costs in processor time: its CRC, its validation as a broker does it, and the stamp
//! that spares the generator both.

use std::hint::black_box;

use bench_harness::batches::{Stamp, Template};
use criterion::{BenchmarkId, Criterion, Throughput};
use millstream::record::{ValidationRules, validate_produce};
use millstream::time::Timestamp;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn batches(criterion: &mut Criterion) {
    let rules = ValidationRules::kafka_defaults(NOW);
    for (name, batch_bytes, record_bytes) in [
        ("64KiB/1KiB", 64 << 10, 1 << 10),
        ("64KiB/100B", 64 << 10, 100),
        ("1MiB/1KiB", 1 << 20, 1 << 10),
    ] {
        let Ok(template) = Template::new(batch_bytes, record_bytes, NOW) else {
            unreachable!("constant sizes that fit");
        };
        let batch = template.stamped(Stamp::default());
        let mut head = batch[..template.head_bytes()].to_vec();
        let mut sequence = 0;

        let mut group = criterion.benchmark_group("batch");
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(BenchmarkId::new("crc", name), |b| {
            b.iter(|| crc32c::crc32c(black_box(&batch)))
        });
        group.bench_function(BenchmarkId::new("validate", name), |b| {
            b.iter(|| validate_produce(black_box(&batch), &rules).is_ok());
        });
        group.bench_function(BenchmarkId::new("stamp", name), |b| {
            b.iter(|| {
                sequence += 1;
                template.stamp(
                    black_box(&mut head),
                    Stamp { run: 1, producer: 2, sequence, ..Stamp::default() },
                );
            });
        });
        group.finish();
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    batches(&mut criterion);
    criterion.final_summary();
}
