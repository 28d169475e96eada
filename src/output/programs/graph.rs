//! ComfyUI's graph of nodes: read from either of its two forms, and followed from node to node.
//!
//! Source: comfyanonymous/ComfyUI `execution.py` (the form of `prompt`: nodes by id with `class_type`
//! and `inputs`, a link is `[id, output]`) and its frontend's `workflow` (lists of nodes and links,
//! values by position).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

/// More nodes than anybody's graph has; what is larger is not read.
const MOST_NODES: usize = 20_000;
/// How many nodes that only hand on may stand in a row.
const LONGEST_ROW: usize = 100;

#[derive(Debug)]
pub struct Graph {
    nodes: BTreeMap<String, Node>,
}

#[derive(Debug, Default)]
pub struct Node {
    pub id: String,
    pub class: String,
    inputs: BTreeMap<String, Input>,
    /// Where each output really comes from, for a node that is switched off.
    bypass: Option<Vec<Option<Link>>>,
}

#[derive(Debug)]
enum Input {
    Value(Value),
    Link(Link),
}

/// An output of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    node: String,
    output: usize,
}

impl Graph {
    /// Reads a `prompt`. `None`: it is none.
    pub fn of_prompt(prompt: &Value) -> Option<Self> {
        let mut nodes = BTreeMap::new();
        for (id, value) in prompt.as_object()? {
            let Some(class) = value.get("class_type").and_then(Value::as_str) else {
                continue;
            };
            let inputs = value.get("inputs").and_then(Value::as_object);
            let inputs = inputs.into_iter().flatten().map(|(name, value)| {
                let input = link(value).map_or_else(|| Input::Value(value.clone()), Input::Link);
                (name.clone(), input)
            });
            let node = Node {
                id: id.clone(),
                class: class.to_owned(),
                inputs: inputs.collect(),
                bypass: None,
            };
            nodes.insert(id.clone(), node);
        }
        Self::checked(nodes)
    }

    /// Reads a `workflow`. `None`: it is none.
    pub fn of_workflow(workflow: &Value) -> Option<Self> {
        let links: BTreeMap<u64, Link> = workflow
            .get("links")?
            .as_array()?
            .iter()
            .filter_map(workflow_link)
            .collect();
        let mut nodes = BTreeMap::new();
        for value in workflow.get("nodes")?.as_array()? {
            if let Some(node) = workflow_node(value, &links) {
                nodes.insert(node.id.clone(), node);
            }
        }
        Self::checked(nodes)
    }

    fn checked(nodes: BTreeMap<String, Node>) -> Option<Self> {
        (1..=MOST_NODES)
            .contains(&nodes.len())
            .then_some(Self { nodes })
    }

    /// Every node, by number.
    pub fn nodes(&self) -> Vec<&Node> {
        let mut nodes: Vec<&Node> = self.nodes.values().collect();
        nodes.sort_by_key(|node| node.order());
        nodes
    }

    /// The node at the other end of an input, and which of its outputs; nodes that only hand on are
    /// stepped over.
    pub fn source(&self, node: &Node, input: &str) -> Option<(&Node, usize)> {
        let mut link = match node.inputs.get(input)? {
            Input::Link(link) => link,
            Input::Value(_) => return None,
        };
        for _ in 0..LONGEST_ROW {
            let source = self.nodes.get(&link.node)?;
            let next = match &source.bypass {
                Some(outputs) => outputs.get(link.output)?.as_ref()?,
                None if source.class.contains("Reroute") => source.links().next()?.1,
                None => return Some((source, link.output)),
            };
            link = next;
        }
        None
    }

    /// A value of an input: its own, or of the node that it comes from, under the same name or one of
    /// `names`.
    pub fn value(&self, node: &Node, input: &str, names: &[&str]) -> Option<&Value> {
        let (mut node, mut input) = (self.nodes.get(&node.id)?, input);
        for _ in 0..LONGEST_ROW {
            match node.inputs.get(input)? {
                Input::Value(value) => return Some(value),
                Input::Link(_) => {}
            }
            let (source, _) = self.source(node, input)?;
            input = [input]
                .into_iter()
                .chain(names.iter().copied())
                .find(|name| source.inputs.contains_key(*name))?;
            node = source;
        }
        None
    }

    /// All nodes that these are made from, themselves first.
    pub fn upstream<'a>(&'a self, nodes: &[&'a Node]) -> Vec<&'a Node> {
        let mut seen: BTreeSet<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
        let mut waiting: VecDeque<&Node> = nodes.iter().copied().collect();
        let mut found = Vec::new();
        while let Some(node) = waiting.pop_front() {
            found.push(node);
            for (name, _) in node.links() {
                if let Some((source, _)) = self.source(node, name)
                    && seen.insert(source.id.as_str())
                {
                    waiting.push_back(source);
                }
            }
        }
        found
    }

    /// Nodes whose outputs no other node takes.
    pub fn ends(&self) -> Vec<&Node> {
        let taken: BTreeSet<&str> = self
            .nodes
            .values()
            .flat_map(|node| node.links().map(|(_, link)| link.node.as_str()))
            .collect();
        let mut ends = self.nodes();
        ends.retain(|node| !taken.contains(node.id.as_str()) && node.bypass.is_none());
        ends
    }
}

impl Node {
    pub fn has(&self, input: &str) -> bool {
        self.inputs.contains_key(input)
    }

    /// The names and ends of the inputs that come from other nodes.
    fn links(&self) -> impl Iterator<Item = (&str, &Link)> {
        self.inputs.iter().filter_map(|(name, input)| match input {
            Input::Link(link) => Some((name.as_str(), link)),
            Input::Value(_) => None,
        })
    }

    pub fn link_names(&self) -> impl Iterator<Item = &str> {
        self.links().map(|(name, _)| name)
    }

    /// The inputs that are set on the node itself.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.inputs.iter().filter_map(|(name, input)| match input {
            Input::Value(value) => Some((name.as_str(), value)),
            Input::Link(_) => None,
        })
    }

    /// By number, where ids are numbers.
    pub fn order(&self) -> (u64, &str) {
        (self.id.parse().unwrap_or(u64::MAX), &self.id)
    }
}

/// `["4", 0]`.
fn link(value: &Value) -> Option<Link> {
    match value.as_array()?.as_slice() {
        [node, output] => Some(Link {
            node: super::fields::words(node)?,
            output: usize::try_from(output.as_u64()?).ok()?,
        }),
        _ => None,
    }
}

/// `[link, from, output, to, input, "TYPE"]`, in subgraphs an object.
fn workflow_link(value: &Value) -> Option<(u64, Link)> {
    let field = |index: usize, name: &str| value.get(index).or_else(|| value.get(name));
    let link = Link {
        node: super::fields::words(field(1, "origin_id")?)?,
        output: usize::try_from(field(2, "origin_slot")?.as_u64()?).ok()?,
    };
    Some((field(0, "id")?.as_u64()?, link))
}

fn workflow_node(value: &Value, links: &BTreeMap<u64, Link>) -> Option<Node> {
    const NEVER: u64 = 2;
    const BYPASS: u64 = 4;
    let class = value.get("type")?.as_str()?;
    let mode = value.get("mode").and_then(Value::as_u64);
    if mode == Some(NEVER) {
        return None;
    }
    let mut inputs = BTreeMap::new();
    let slots = value.get("inputs").and_then(Value::as_array);
    let slots: Vec<(&Value, Option<&Link>)> = slots
        .into_iter()
        .flatten()
        .map(|slot| {
            let link = slot.get("link").and_then(Value::as_u64);
            (slot, link.and_then(|link| links.get(&link)))
        })
        .collect();
    for (name, value) in widgets(class, value.get("widgets_values")) {
        inputs.insert(name, Input::Value(value.clone()));
    }
    for (slot, link) in &slots {
        if let (Some(name), Some(link)) = (slot.get("name").and_then(Value::as_str), link) {
            inputs.insert(name.to_owned(), Input::Link((*link).clone()));
        }
    }
    // A node that is switched off hands on, to each output, its first input of the same kind.
    let same_kind = |output: &Value| {
        let kind = output.get("type");
        let mut of_kind = slots.iter().filter(|(slot, _)| slot.get("type") == kind);
        of_kind.find_map(|(_, link)| link.cloned())
    };
    let outputs = value.get("outputs").and_then(Value::as_array);
    let bypass = || outputs.into_iter().flatten().map(same_kind).collect();
    Some(Node {
        id: super::fields::words(value.get("id")?)?,
        class: class.to_owned(),
        inputs,
        bypass: (mode == Some(BYPASS)).then(bypass),
    })
}

/// The values of a node's widgets by name: ComfyUI's `nodes.py` and `comfy_extras/nodes_custom_sampler.py`
/// in the order of `INPUT_TYPES`, with the frontend's `control_after_generate` behind each seed.
const WIDGETS: &[(&str, &[&str])] = &[
    (
        "KSampler",
        &[
            "seed",
            "",
            "steps",
            "cfg",
            "sampler_name",
            "scheduler",
            "denoise",
        ],
    ),
    (
        "KSamplerAdvanced",
        &[
            "add_noise",
            "noise_seed",
            "",
            "steps",
            "cfg",
            "sampler_name",
            "scheduler",
            "start_at_step",
            "end_at_step",
            "return_with_leftover_noise",
        ],
    ),
    ("SamplerCustom", &["add_noise", "noise_seed", "", "cfg"]),
    ("RandomNoise", &["noise_seed", ""]),
    ("KSamplerSelect", &["sampler_name"]),
    ("BasicScheduler", &["scheduler", "steps", "denoise"]),
    (
        "KarrasScheduler",
        &["steps", "sigma_max", "sigma_min", "rho"],
    ),
    ("ExponentialScheduler", &["steps", "sigma_max", "sigma_min"]),
    (
        "AlignYourStepsScheduler",
        &["model_type", "steps", "denoise"],
    ),
    ("CFGGuider", &["cfg"]),
    ("CLIPTextEncode", &["text"]),
    ("CLIPSetLastLayer", &["stop_at_clip_layer"]),
    ("CheckpointLoaderSimple", &["ckpt_name"]),
    ("UNETLoader", &["unet_name", "weight_dtype"]),
    ("VAELoader", &["vae_name"]),
    (
        "LoraLoader",
        &["lora_name", "strength_model", "strength_clip"],
    ),
    ("LoraLoaderModelOnly", &["lora_name", "strength_model"]),
    ("EmptyLatentImage", &["width", "height", "batch_size"]),
    ("EmptySD3LatentImage", &["width", "height", "batch_size"]),
    ("ControlNetLoader", &["control_net_name"]),
    ("UpscaleModelLoader", &["model_name"]),
    ("RescaleCFG", &["multiplier"]),
    ("PrimitiveNode", &["value"]),
];

fn widgets<'a>(class: &str, values: Option<&'a Value>) -> Vec<(String, &'a Value)> {
    match values {
        Some(Value::Object(named)) => named.iter().map(|(name, v)| (name.clone(), v)).collect(),
        Some(Value::Array(values)) => {
            let known = WIDGETS.iter().find(|(known, _)| *known == class);
            let names = known.map_or(&[][..], |(_, names)| names);
            let named = names
                .iter()
                .zip(values)
                .filter(|(name, _)| !name.is_empty());
            named
                .map(|(name, value)| ((*name).to_owned(), value))
                .collect()
        }
        _ => Vec::new(),
    }
}
