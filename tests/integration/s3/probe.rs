//! Servers that only pretend to keep the conditions of writes: a start finds them out, one node may use them, and a second one is refused.

mod alone;

use everpage::store::s3::bucket::{Bucket, ConditionalWrites, Probe};
use tokio::task::JoinSet;

use crate::support::{Fault, Liar, Lie, Link, Refusal, TestBucket, on_each_server};

/// How often each liar is tried, and each honest server.
const TIMES: usize = 6;

on_each_server!(
    an_honest_server_is_never_refused_however_busy,
    a_racer_whose_answer_is_lost_or_is_500_does_not_make_a_liar,
);

async fn probe(bucket: &TestBucket) -> Probe {
    Bucket::open(&bucket.settings()).await.expect("the bucket is there").probe().await.expect("it can be tried")
}

async fn an_honest_server_is_never_refused_however_busy(bucket: TestBucket) {
    let opened = Bucket::open(&bucket.settings()).await.expect("the bucket is there");
    let mut tried = JoinSet::new();
    for _ in 0..TIMES {
        let opened = opened.clone();
        tried.spawn(async move { opened.probe().await.expect("it can be tried") });
    }
    let honest = Probe { conditional_writes: ConditionalWrites::Atomic, conditional_reads: true };
    for probe in tried.join_all().await {
        assert_eq!(probe, honest);
    }
    assert_eq!(bucket.keys().await, Vec::<String>::new(), "nothing is left behind");
}

async fn a_racer_whose_answer_is_lost_or_is_500_does_not_make_a_liar(bucket: TestBucket) {
    let link = Link::to(&bucket.endpoint).await;
    let opened = Bucket::open(&bucket.settings_through(&link.url())).await.expect("the bucket is there");
    let faults = [
        (1, Fault::LoseAnswer),
        (1, Fault::Refuse(Refusal::InternalError)),
        (3, Fault::Refuse(Refusal::InternalError)),
        // All of the first race, which nobody wins then.
        (4, Fault::Refuse(Refusal::InternalError)),
        (4, Fault::Refuse(Refusal::ConditionalRequestConflict)),
    ];
    for (count, fault) in faults {
        link.next(count, |asked| asked.is("PUT", "everpage-probe-"), fault.clone());
        let probe = opened.probe().await.expect("it can be tried");
        assert_eq!(probe.conditional_writes, ConditionalWrites::Atomic, "{count} of {fault:?}");
    }
}

#[tokio::test]
async fn who_ignores_conditions_is_found_out_each_time() {
    let liar = Liar::start(Lie::IgnoresConditions).await;
    let bucket = TestBucket::fresh(&liar.url()).await;
    for _ in 0..TIMES {
        let ConditionalWrites::Ignored(flaw) = probe(&bucket).await.conditional_writes else {
            panic!("it was believed")
        };
        assert!(flaw.contains("create-if-absent (If-None-Match: *)"), "{flaw}");
    }
    assert_eq!(bucket.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn who_loses_races_is_found_out_each_time() {
    let liar = Liar::start(Lie::LosesRaces).await;
    let bucket = TestBucket::fresh(&liar.url()).await;
    for _ in 0..TIMES {
        let ConditionalWrites::LosesRaces(flaw) = probe(&bucket).await.conditional_writes else { panic!("not told") };
        assert!(flaw.contains("race of create-if-absent: 4 of 4 writers won"), "{flaw}");
    }
    assert_eq!(bucket.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn who_hides_changes_from_conditional_reads_is_found_out() {
    let liar = Liar::start(Lie::HidesChanges).await;
    let bucket = TestBucket::fresh(&liar.url()).await;
    let ConditionalWrites::Unseen(flaw) = probe(&bucket).await.conditional_writes else { panic!("it was believed") };
    assert!(flaw.contains("told 304 although the object had changed"), "{flaw}");
}

#[tokio::test]
async fn who_refuses_all_conditions_is_found_out() {
    let liar = Liar::start(Lie::None).await;
    let bucket = TestBucket::fresh(&liar.url()).await;
    let link = Link::to(&bucket.endpoint).await;
    let opened = Bucket::open(&bucket.settings_through(&link.url())).await.expect("the bucket is there");
    let refused = Fault::Refuse(Refusal::PreconditionFailed);
    link.next(usize::MAX, |asked| asked.is("PUT", "everpage-probe-"), refused);
    let found = opened.probe().await.expect("it can be tried").conditional_writes;
    assert!(matches!(found, ConditionalWrites::Unsupported(_)), "{found:?}");
}

#[tokio::test]
async fn without_a_lie_nothing_is_found_within_25_requests() {
    let liar = Liar::start(Lie::None).await;
    let bucket = TestBucket::fresh(&liar.url()).await;
    let opened = Bucket::open(&bucket.settings()).await.expect("the bucket is there");
    for _ in 0..TIMES {
        let asked = |bucket: &Bucket| bucket.requests().iter().map(|counted| counted.count).sum::<u64>();
        let before = asked(&opened);
        let probe = opened.probe().await.expect("it can be tried");
        assert_eq!(probe, Probe { conditional_writes: ConditionalWrites::Atomic, conditional_reads: true });
        // The form of the ETag is doubted now and then: two more.
        assert!(asked(&opened) - before <= 25 + 2, "{:?}", opened.requests());
    }
}

#[tokio::test]
async fn who_sends_what_has_not_changed_is_told_from_a_liar() {
    let liar = Liar::start(Lie::SendsUnchanged).await;
    let bucket = TestBucket::fresh(&liar.url()).await;
    let expected = Probe { conditional_writes: ConditionalWrites::Atomic, conditional_reads: false };
    assert_eq!(probe(&bucket).await, expected);
}
