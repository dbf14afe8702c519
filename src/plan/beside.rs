//! A document of our own beside each image: it is attached to the image, and goes the same way as everything else that
//! is. It is part of no bundle.

use std::collections::HashMap;

use super::{Node, Plan, Referrer};
use crate::oci::{Descriptor, Digest};

impl Plan {
    /// Attaches a document to an image's top document, which it names as its subject. What it names itself becomes
    /// part of the plan, too, each digest once.
    pub fn attach(&mut self, image: usize, document: &Descriptor, children: &[Descriptor], kind: &str) {
        let Some(subject) = self.images.get(image).map(|image| image.digest) else { return };
        let mut known: HashMap<Digest, usize> = HashMap::new();
        let ours = |digest: &Digest| {
            *digest == document.digest || children.iter().any(|child| child.digest == *digest)
        };
        for (number, node) in self.nodes.iter().enumerate().filter(|(_, node)| ours(&node.descriptor.digest))
        {
            known.insert(node.descriptor.digest, number);
        }
        let mut node = |nodes: &mut Vec<Node>, descriptor: &Descriptor, children: Vec<usize>, rank| {
            *known.entry(descriptor.digest).or_insert_with(|| {
                nodes.push(Node { descriptor: descriptor.clone(), origin: image, children, rank });
                nodes.len().saturating_sub(1)
            })
        };
        let below = children.iter().map(|child| node(&mut self.nodes, child, Vec::new(), 1)).collect();
        let number = node(&mut self.nodes, document, below, 0);
        let attached = self.attached.get_mut(image).filter(|attached| !attached.contains(&number));
        if let (Some(attached), Some(image)) = (attached, self.images.get_mut(image)) {
            attached.push(number);
            image.referrers.push(Referrer {
                artifact_type: kind.to_owned(),
                digest: document.digest,
                media_type: document.media_type.to_string(),
                subject,
                tag: None,
            });
        }
    }
}
