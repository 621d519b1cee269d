//! What happened to the members, as the journal's head shows it; and a head that hides a part of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::simulation::world::World;

fn members(head: &Bytes) -> (Value, BTreeMap<String, Value>) {
    let start = head.iter().position(|byte| *byte == b'\n').expect("a first line");
    let head: Value = serde_json::from_slice(&head[start + 1..]).unwrap();
    let members = head["members"].as_object().unwrap().clone().into_iter().collect();
    (head, members)
}

fn is_passed_over(member: &Value) -> bool {
    !member["passed_over"].is_null()
}

/// Counts what a swap did.
pub fn note_changes(world: &World, before: Option<&Bytes>, after: &Bytes) {
    let Some(before) = before else { return };
    let ((old_head, before), (head, after)) = (members(before), members(after));
    for (node, old) in &before {
        match after.get(node) {
            None if is_passed_over(old) => world.count("members dropped"),
            None => world.count("members who left"),
            Some(new) if is_passed_over(new) && !is_passed_over(old) => world.count("members passed over"),
            Some(new) if new["epoch"] != old["epoch"] => world.count("members who joined again"),
            Some(_) => {}
        }
    }
    if before.len() > 1 && after.keys().any(|node| !before.contains_key(node)) {
        world.count("members who came later");
    }
    if old_head["snapshot"] != head["snapshot"] {
        world.count("folds of the shared journal");
    }
    if head["parts"].as_array().map(Vec::len) > old_head["parts"].as_array().map(Vec::len) {
        world.count("records moved out of the head");
    }
}

/// The same head, in which a node is a member that nobody has passed over.
pub fn without_marks(head: &Bytes, node: usize) -> Bytes {
    let (mut head, _) = members(head);
    let url = super::node::url(node);
    let is_own = |member: &Value| member["url"].as_str() == Some(&url);
    let members: &mut Map<String, Value> = head["members"].as_object_mut().unwrap();
    for member in members.values_mut().filter(|member| is_own(member)) {
        member.as_object_mut().unwrap().remove("passed_over");
    }
    let json = serde_json::to_vec(&head).unwrap();
    let first = format!("everpage/1 journal-head {} {:08x}\n", json.len(), crc32fast::hash(&json));
    [first.into_bytes(), json].concat().into()
}
