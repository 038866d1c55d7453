//! What every core knows of topics.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::MetadataRecord;
use super::configs::{ConfigResource, ResourceType};
use crate::config::TopicConfigs;
use crate::types::TopicId;

/// A topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Number of partitions.
    pub partitions: i32,
    /// Topic configs that were set, sorted.
    pub configs: Vec<(String, String)>,
    /// All of them, after inheritance.
    pub effective: Rc<TopicConfigs>,
}

impl Topic {
    /// Whether it is one of the broker's own topics (`Topic.isInternal`).
    #[must_use]
    pub fn is_internal(&self) -> bool {
        matches!(
            self.name.as_str(),
            "__consumer_offsets" | "__transaction_state" | "__share_group_state"
        )
    }

    /// A config of this topic, if it was set.
    #[must_use]
    pub fn config(&self, key: &str) -> Option<&str> {
        self.configs.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

type Configs = BTreeMap<String, String>;

/// All topics, by name and by id, and what was configured while the broker runs.
#[derive(Clone, Debug, Default)]
pub struct Image {
    by_name: BTreeMap<String, Rc<Topic>>,
    by_id: BTreeMap<TopicId, Rc<Topic>>,
    partitions: i64,
    /// Records that this image is made of.
    applied: u64,
    /// The dynamic configs of everything but topics.
    resources: BTreeMap<ConfigResource, Configs>,
    /// This broker's name as a resource.
    broker: String,
    /// What topics inherit from the broker's start.
    at_start: Rc<TopicConfigs>,
    /// The same with what was changed since.
    inherited: Rc<TopicConfigs>,
}

impl Image {
    /// Says which broker this is, and what its topics inherit.
    pub fn set_broker(&mut self, node_id: i32, at_start: TopicConfigs) {
        self.broker = node_id.to_string();
        self.at_start = Rc::new(at_start);
        self.inherit();
    }

    /// Acts on a record.
    pub fn replay(&mut self, record: &MetadataRecord) {
        self.applied += 1;
        match record {
            MetadataRecord::Topic { name, id, partitions, configs } => self.insert(Topic {
                name: name.clone(),
                id: *id,
                partitions: *partitions,
                configs: configs.clone(),
                effective: Rc::new(self.inherited.with_topic(configs)),
            }),
            MetadataRecord::TopicDeleted { id } => self.remove(*id),
            MetadataRecord::PartitionCount { id, partitions } => {
                self.update(*id, |topic| topic.partitions = *partitions);
            }
            MetadataRecord::Config { resource, key, value } => {
                self.set_config(resource, key, value.as_deref());
            }
            MetadataRecord::Start { .. }
            | MetadataRecord::CleanStop { .. }
            | MetadataRecord::ProducerIds { .. }
            | MetadataRecord::OldJournalsDropped { .. } => {}
        }
    }

    fn insert(&mut self, topic: Topic) {
        let topic = Rc::new(topic);
        self.partitions += i64::from(topic.partitions);
        self.by_name.insert(topic.name.clone(), Rc::clone(&topic));
        self.by_id.insert(topic.id, topic);
    }

    fn remove(&mut self, id: TopicId) {
        if let Some(topic) = self.by_id.remove(&id) {
            self.partitions -= i64::from(topic.partitions);
            self.by_name.remove(&topic.name);
        }
    }

    fn update(&mut self, id: TopicId, change: impl FnOnce(&mut Topic)) {
        let Some(topic) = self.by_id.get(&id).cloned() else { return };
        let mut topic = Topic::clone(&topic);
        change(&mut topic);
        self.remove(id);
        self.insert(topic);
    }

    fn set_config(&mut self, resource: &ConfigResource, key: &str, value: Option<&str>) {
        if resource.kind == ResourceType::Topic {
            let inherited = Rc::clone(&self.inherited);
            let Some(id) = self.by_name.get(&resource.name).map(|topic| topic.id) else { return };
            self.update(id, |topic| {
                topic.configs.retain(|(name, _)| name != key);
                topic.configs.extend(value.map(|value| (key.to_owned(), value.to_owned())));
                topic.configs.sort();
                topic.effective = Rc::new(inherited.with_topic(&topic.configs));
            });
            return;
        }
        let configs = self.resources.entry(resource.clone()).or_default();
        match value {
            Some(value) => configs.insert(key.to_owned(), value.to_owned()),
            None => configs.remove(key),
        };
        if configs.is_empty() {
            self.resources.remove(resource);
        }
        if resource.kind == ResourceType::Broker {
            self.inherit();
        }
    }

    /// Works out anew what every topic inherits.
    fn inherit(&mut self) {
        let configs =
            |name: &str| self.configs_of(&ConfigResource::new(ResourceType::Broker, name));
        let inherited = self.at_start.with_broker(&configs("")).with_broker(&configs(&self.broker));
        if inherited == *self.inherited {
            return;
        }
        self.inherited = Rc::new(inherited);
        let ids: Vec<TopicId> = self.by_id.keys().copied().collect();
        let inherited = Rc::clone(&self.inherited);
        for id in ids {
            self.update(id, |topic| {
                topic.effective = Rc::new(inherited.with_topic(&topic.configs))
            });
        }
    }

    /// How many records this image is made of: the same on every shard that has caught up.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// What topics inherit.
    #[must_use]
    pub fn inherited(&self) -> &Rc<TopicConfigs> {
        &self.inherited
    }

    /// What was set for a resource while the broker runs.
    #[must_use]
    pub fn configs_of(&self, resource: &ConfigResource) -> BTreeMap<String, String> {
        if resource.kind == ResourceType::Topic {
            let configs = self.by_name.get(&resource.name).map(|topic| topic.configs.clone());
            return configs.unwrap_or_default().into_iter().collect();
        }
        self.resources.get(resource).cloned().unwrap_or_default()
    }

    /// Everything but topics that has configs.
    pub fn resources(&self) -> impl Iterator<Item = (&ConfigResource, &BTreeMap<String, String>)> {
        self.resources.iter()
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
