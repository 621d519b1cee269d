//! The journal in a bucket, on real servers: its contract, several nodes at once, answers that get lost.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use everpage::clock::Clock;
use everpage::invalidation::Invalidations;
use everpage::invalidation::journal::contract::{self, record};
use everpage::invalidation::journal::s3::{self, S3Journal};
use everpage::invalidation::journal::{Journal, Other, Recovered};
use everpage::page::Sequence;
use everpage::store::s3::bucket::Bucket;
use tokio::task::JoinSet;

use crate::support::{Fault, Link, Refusal, TestBucket, on_each_server};

const LEASE: Duration = Duration::from_secs(2);

on_each_server!(
    it_keeps_the_contract_of_every_journal,
    nodes_that_append_at_once_share_no_number_and_hear_of_each_other,
    an_append_whose_answer_was_lost_is_in_the_journal_once,
    an_append_that_never_arrived_is_tried_again,
    what_is_large_lies_in_objects_of_its_own,
    a_node_that_fell_behind_a_fold_reads_the_snapshot,
    two_folds_leave_no_object_behind_that_nothing_names,
    a_silent_node_is_waited_for_until_it_cannot_serve_and_then_no_more,
    a_node_that_was_passed_over_joins_again_before_it_goes_on,
    whoever_leaves_is_not_waited_for,
    a_damaged_head_begins_a_new_journal,
    a_journal_that_is_gone_while_its_pages_are_there_had_nodes,
    a_crowd_of_the_dead_makes_room,
    a_journal_that_vanishes_or_goes_back_is_not_relied_on,
    a_journal_of_a_newer_version_is_left_alone,
    a_page_of_before_is_not_served_by_another_process,
);

async fn open(bucket: &TestBucket) -> (Arc<S3Journal>, Recovered) {
    open_through(bucket, &bucket.endpoint).await
}

async fn open_through(bucket: &TestBucket, endpoint: &str) -> (Arc<S3Journal>, Recovered) {
    let settings = everpage::config::S3Store { location: "site".to_owned(), ..bucket.settings_through(endpoint) };
    let bucket = Bucket::open(&settings).await.expect("the bucket is there");
    let (journal, recovered) = s3::open(bucket, "", LEASE, None, Clock::Wall).await.expect("a journal opens");
    (Arc::new(journal), recovered)
}

async fn append(journal: &S3Journal, number: u64) -> Sequence {
    journal.append(&[record(number)]).await.expect("appends").last
}

fn names(recovered: &Recovered) -> Vec<String> {
    recovered.records.iter().map(|(_, record)| record.paths[0].path.to_string()).collect()
}

/// A location of its own in the bucket for each place.
struct Place {
    bucket: TestBucket,
    location: String,
}

#[async_trait]
impl contract::Place for Place {
    async fn open(&self) -> (Arc<dyn Journal>, Recovered) {
        let settings = everpage::config::S3Store { location: self.location.clone(), ..self.bucket.settings() };
        let bucket = Bucket::open(&settings).await.expect("the bucket is there");
        let (journal, recovered) = s3::open(bucket, "shop", LEASE, None, Clock::Wall).await.expect("a journal opens");
        (Arc::new(journal), recovered)
    }
}

async fn it_keeps_the_contract_of_every_journal(bucket: TestBucket) {
    let fresh = || Place { bucket: bucket.clone(), location: uuid::Uuid::new_v4().to_string() };
    contract::every_journal(fresh).await;
    contract::durable_journal(fresh).await;
}

async fn nodes_that_append_at_once_share_no_number_and_hear_of_each_other(bucket: TestBucket) {
    let mut tasks = JoinSet::new();
    for node in 0..4 {
        let (journal, recovered) = open(&bucket).await;
        tasks.spawn(async move {
            let (mut heard, mut own) = (recovered.records, Vec::new());
            for number in 0..5 {
                let appended = journal.append(&[record(10 * node + number)]).await.expect("appends");
                own.push(appended.last);
                heard.extend(appended.news.records);
            }
            (journal, heard, own)
        });
    }
    let nodes = tasks.join_all().await;
    let mut taken: Vec<u64> = nodes.iter().flat_map(|(.., own)| own.iter().map(|sequence| sequence.0)).collect();
    taken.sort_unstable();
    assert_eq!(taken, (1..=20).collect::<Vec<_>>());
    let (_, all) = open(&bucket).await;
    for (journal, mut heard, _) in nodes {
        heard.extend(journal.look().await.expect("looks").news.records);
        assert_eq!(heard, all.records, "each record once, in order");
    }
}

async fn an_append_whose_answer_was_lost_is_in_the_journal_once(bucket: TestBucket) {
    let link = Link::to(&bucket.endpoint).await;
    let (journal, _) = open_through(&bucket, &link.url()).await;
    append(&journal, 1).await;
    link.next(1, |asked| asked.is("PUT", "/journal/head"), Fault::LoseAnswer);
    assert_eq!(append(&journal, 2).await, Sequence(2));
    assert_eq!(append(&journal, 3).await, Sequence(3));
    assert_eq!(names(&open(&bucket).await.1), ["/page/1", "/page/2", "/page/3"]);
}

async fn an_append_that_never_arrived_is_tried_again(bucket: TestBucket) {
    let link = Link::to(&bucket.endpoint).await;
    let (journal, _) = open_through(&bucket, &link.url()).await;
    link.next(2, |asked| asked.is("PUT", "/journal/head"), Fault::Refuse(Refusal::SlowDown));
    assert_eq!(append(&journal, 1).await, Sequence(1));
    assert_eq!(names(&open(&bucket).await.1), ["/page/1"]);
}

async fn what_is_large_lies_in_objects_of_its_own(bucket: TestBucket) {
    let (journal, _) = open(&bucket).await;
    let (other, _) = open(&bucket).await;
    let many: Vec<_> = (1..=2000).map(record).collect();
    let appended = journal.append(&many).await.expect("appends");
    assert_eq!((appended.last, appended.news.records.len()), (Sequence(2000), 2000));
    assert_eq!(append(&journal, 2001).await, Sequence(2001));
    let head = bucket.read("site/default/journal/head").await.expect("there is a head");
    assert!(head.len() < 10_000, "the head stays small: {}", head.len());
    assert_eq!(other.look().await.expect("looks").news.records.len(), 2001);
    let (_, all) = open(&bucket).await;
    assert_eq!(all.records[1999].1, record(2000));
    assert_eq!(all.last(), Sequence(2001));
}

async fn a_node_that_fell_behind_a_fold_reads_the_snapshot(bucket: TestBucket) {
    let (journal, _) = open(&bucket).await;
    let (other, _) = open(&bucket).await;
    for number in 1..=3 {
        append(&journal, number).await;
    }
    journal.fold(Sequence(2), b"two".to_vec()).await.expect("folds");
    let news = other.look().await.expect("looks").news;
    assert_eq!(news.snapshot, Some((Sequence(2), b"two".to_vec())));
    assert_eq!(names(&news), ["/page/3"]);
    assert_eq!(other.look().await.expect("looks").news, Recovered::default(), "it is told once");
}

async fn two_folds_leave_no_object_behind_that_nothing_names(bucket: TestBucket) {
    let (journal, _) = open(&bucket).await;
    for round in 1..=3 {
        let many: Vec<_> = (1..=2000).map(record).collect();
        let last = journal.append(&many).await.expect("appends").last;
        assert_eq!(last, Sequence(2000 * round));
        journal.fold(last, b"folded".to_vec()).await.expect("folds");
    }
    let objects = bucket.keys().await.into_iter().filter(|key| !key.ends_with("/head")).collect::<Vec<_>>();
    // The newest snapshot; the one before it and the last records wait for the next fold.
    assert_eq!(objects.len(), 3, "{objects:?}");
}

async fn a_silent_node_is_waited_for_until_it_cannot_serve_and_then_no_more(bucket: TestBucket) {
    let (journal, _) = open(&bucket).await;
    let (silent, _) = open(&bucket).await;
    assert_eq!(others(&journal, 1).await.len(), 1);
    drop(silent);
    let [other] = &others(&journal, 2).await[..] else { panic!("one other") };
    assert!(other.wait > LEASE);
    tokio::time::sleep(other.wait).await;
    journal.pass_over(&[Arc::clone(&other.ticket)]).await.expect("is marked");
    // Its last look may have begun just before it was marked.
    let [other] = &others(&journal, 3).await[..] else { panic!("it is waited for once more") };
    tokio::time::sleep(other.wait * 2).await;
    assert!(others(&journal, 4).await.is_empty());
}

async fn others(journal: &S3Journal, number: u64) -> Vec<Other> {
    journal.append(&[record(number)]).await.expect("appends").others
}

async fn a_node_that_was_passed_over_joins_again_before_it_goes_on(bucket: TestBucket) {
    let (journal, _) = open(&bucket).await;
    let (slow, _) = open(&bucket).await;
    let tickets = [Arc::clone(&others(&journal, 1).await[0].ticket)];
    journal.pass_over(&tickets).await.expect("is marked");
    assert_eq!(journal.nodes(), 1);
    assert_eq!(names(&slow.look().await.expect("looks").news), ["/page/1"]);
    let again = others(&journal, 2).await;
    assert_eq!(again.len(), 1, "it is a member again");
    assert_ne!(again[0].ticket, tickets[0], "under a new epoch");
    journal.pass_over(&tickets).await.expect("nothing to do");
    assert_eq!(journal.nodes(), 2, "an old ticket marks nobody");
}

async fn whoever_leaves_is_not_waited_for(bucket: TestBucket) {
    let (journal, _) = open(&bucket).await;
    let (leaving, _) = open(&bucket).await;
    leaving.leave().await.expect("leaves");
    leaving.look().await.expect_err("it has left");
    leaving.append(&[record(9)]).await.expect_err("it has left");
    let appended = journal.append(&[record(1)]).await.expect("appends");
    assert_eq!((appended.others.len(), journal.nodes()), (0, 1));
}

async fn a_damaged_head_begins_a_new_journal(bucket: TestBucket) {
    let (journal, _) = open(&bucket).await;
    let id = journal.id();
    append(&journal, 1).await;
    let head = bucket.read("site/default/journal/head").await.expect("there is a head");
    let mut edited = head.to_vec();
    let last = edited.len() - 3;
    edited[last] ^= 1;
    bucket.plant("site/default/journal/head", edited).await;
    journal.look().await.expect_err("nobody knows what it said");
    let (next, recovered) = open(&bucket).await;
    assert_ne!(next.id(), id);
    assert_eq!(recovered, Recovered::default());
    let others = others(&next, 1).await;
    assert!(others.iter().any(|other| other.wait > LEASE), "nodes of the old one may serve for a while: {others:?}");
}

async fn a_journal_that_is_gone_while_its_pages_are_there_had_nodes(bucket: TestBucket) {
    let (fresh, _) = open(&bucket).await;
    assert!(others(&fresh, 1).await.is_empty(), "there was nothing");
    bucket.plant("site/default/1/pages/x", "a page").await;
    bucket.remove("site/default/journal/head").await;
    let (next, _) = open(&bucket).await;
    let [other] = &others(&next, 1).await[..] else { panic!("somebody stands for those before") };
    assert!(other.wait > LEASE);
}

async fn a_crowd_of_the_dead_makes_room(bucket: TestBucket) {
    let (journal, _) = open(&bucket).await;
    append(&journal, 1).await;
    let head = bucket.read("site/default/journal/head").await.expect("there is a head");
    let json = std::str::from_utf8(&head).unwrap().split_once('\n').unwrap().1;
    let mut json: serde_json::Value = serde_json::from_str(json).unwrap();
    let members = json["members"].as_object_mut().unwrap();
    let dead = members.values().next().unwrap().clone();
    (0..300).for_each(|n| drop(members.insert(format!("dead {n}"), dead.clone())));
    let json = serde_json::to_vec(&json).unwrap();
    let mut sealed = format!("everpage/1 journal-head {} {:08x}\n", json.len(), crc32fast::hash(&json)).into_bytes();
    sealed.extend_from_slice(&json);
    bucket.plant("site/default/journal/head", sealed).await;
    let living = tokio::spawn(async move {
        loop {
            tokio::time::sleep(LEASE).await;
            // On a busy machine one may fail.
            let _ = journal.look().await;
            if journal.nodes() == 2 {
                return;
            }
        }
    });
    let (next, recovered) = open(&bucket).await;
    assert_eq!(recovered.last(), Sequence(1));
    living.await.unwrap();
    assert_eq!(next.look().await.map(|_| next.nodes()).expect("looks"), 2);
}

async fn a_journal_that_vanishes_or_goes_back_is_not_relied_on(bucket: TestBucket) {
    let key = "site/default/journal/head";
    let (journal, _) = open(&bucket).await;
    append(&journal, 1).await;
    let backup = bucket.read(key).await.expect("there is a head");
    append(&journal, 2).await;
    bucket.plant(key, backup).await;
    let error = journal.look().await.expect_err("it has lost a record").to_string();
    assert!(error.contains("lost records"), "{error}");
    bucket.remove(key).await;
    let error = journal.look().await.expect_err("it is gone").to_string();
    assert!(error.contains("gone"), "{error}");
    let (_other, _) = open(&bucket).await;
    let error = journal.look().await.expect_err("it is another").to_string();
    assert!(error.contains("another journal"), "{error}");
}

async fn a_journal_of_a_newer_version_is_left_alone(bucket: TestBucket) {
    let newer = b"everpage/2 journal-head whatever\nmore".as_slice();
    bucket.plant("site/default/journal/head", newer).await;
    let settings = everpage::config::S3Store { location: "site".to_owned(), ..bucket.settings() };
    let opened = s3::open(Bucket::open(&settings).await.expect("the bucket"), "", LEASE, None, Clock::Wall).await;
    let error = opened.expect_err("it cannot be read").to_string();
    assert!(error.contains("newer version"), "{error}");
    assert_eq!(bucket.read("site/default/journal/head").await.as_deref(), Some(newer));
}

async fn a_page_of_before_is_not_served_by_another_process(bucket: TestBucket) {
    let (one, recovered) = open(&bucket).await;
    let here = Invalidations::start(one, recovered);
    let (two, recovered) = open(&bucket).await;
    let there = Invalidations::start(two, recovered);
    for round in 1..=3 {
        let record = std::sync::Arc::unwrap_or_clone(record(1));
        let made = here.submit(record).await.expect("is durable");
        assert_eq!(made.sequence, Sequence(round));
        // What a request does there that starts now.
        if !there.is_current() {
            there.make_current().await.expect("the journal is at hand");
        }
        assert!(there.applied() >= made.sequence);
    }
    for node in [here, there] {
        let closed = node.closed();
        drop(node);
        closed.await;
    }
}
