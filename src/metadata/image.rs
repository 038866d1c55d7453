//! What every core knows of topics.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::types::TopicId;

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Number of partitions.
    pub partitions: i32,
    /// Topic configs that were set.
    pub configs: Vec<(String, String)>,
}

impl Topic {
    /// A config of this topic, if it was set.
    #[must_use]
    pub fn config(&self, key: &str) -> Option<&str> {
        self.configs.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

/// All topics, by name and by id.
#[derive(Clone, Debug, Default)]
pub struct Image {
    by_name: BTreeMap<String, Rc<Topic>>,
    by_id: BTreeMap<TopicId, Rc<Topic>>,
    partitions: i64,
}

impl Image {
    /// Adds a topic.
    pub fn insert(&mut self, topic: Topic) {
        let topic = Rc::new(topic);
        self.partitions += i64::from(topic.partitions);
        self.by_name.insert(topic.name.clone(), Rc::clone(&topic));
        self.by_id.insert(topic.id, topic);
    }

    /// Removes a topic.
    pub fn remove(&mut self, id: TopicId) {
        if let Some(topic) = self.by_id.remove(&id) {
            self.partitions -= i64::from(topic.partitions);
            self.by_name.remove(&topic.name);
        }
    }

    /// The topic of that name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Rc<Topic>> {
        self.by_name.get(name)
    }

    /// The topic of that id.
    #[must_use]
    pub fn by_id(&self, id: TopicId) -> Option<&Rc<Topic>> {
        self.by_id.get(&id)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Rc<Topic>> {
        self.by_name.values()
    }

    /// Partitions of all topics.
    #[must_use]
    pub fn partitions_total(&self) -> i64 {
        self.partitions
    }

    /// A topic whose name differs only in `.` and `_`, which Kafka's metric names cannot tell apart.
    #[must_use]
    pub fn colliding(&self, name: &str) -> Option<&str> {
        if !name.contains(['.', '_']) {
            return None;
        }
        let folded = name.replace('.', "_");
        self.by_name.keys().map(String::as_str).find(|k| k.replace('.', "_") == folded)
    }
}
