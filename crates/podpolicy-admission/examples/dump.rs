use podpolicy_engine::*;
use std::{collections::HashMap, sync::Arc};
fn main() {
    let text = std::io::read_to_string(std::io::stdin()).unwrap();
    let policies: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let policies = policies.into_iter().map(|p| Arc::new(if p["kind"] == "PodPolicy" { Policy::from_namespaced(&serde_json::from_value(p).unwrap()) } else { Policy::from_cluster(&serde_json::from_value(p).unwrap()) }));
    let program = Program::new(policies, HashMap::new(), Settings { exec: Exec::Vouched, ..Settings::default() });
    let c = podpolicy_admission::cel::compile(&program);
    let mut items = Vec::new();
    for u in c.units {
        items.push(serde_json::to_value(&u.policy).unwrap());
        items.push(serde_json::to_value(&u.binding).unwrap());
    }
    println!("{}", serde_json::json!({"apiVersion":"v1","kind":"List","items":items}));
}
