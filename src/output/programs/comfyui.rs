//! ComfyUI: the graph of nodes that drew the picture, followed from the picture back to its seed,
//! words and files.
//!
//! Source: comfyanonymous/ComfyUI `nodes.py` (inputs of the nodes, `SaveImage`), `comfy/samplers.py`
//! (names) and `comfy_extras/nodes_custom_sampler.py`. Nodes are known by their inputs more than by
//! their class, so that those of extensions are followed where they are alike; each that is not
//! understood and lies on the way is named.

use std::collections::BTreeSet;

use serde_json::Value;

use super::fields::words;
use super::graph::{Graph, Node};
use super::sheet::{Sheet, parse, short};
use crate::request::{Emphasis, NamedFile, SamplerId, ScheduleId, SeedMode};

/// More samplers than this are not looked at.
const MOST_SAMPLERS: usize = 64;
/// How many nodes may stand between a sampler and what is looked for.
const LONGEST_WAY: usize = 200;
/// How deep texts may be put together, and from how many pieces in all.
const DEEPEST_TEXT: usize = 16;
const MOST_PIECES: usize = 200;

/// What nodes that only hold a value call it.
const NUMBER_NAMES: &[&str] = &[
    "value",
    "seed",
    "noise_seed",
    "int",
    "float",
    "number",
    "Number",
    "Value",
];
const TEXT_NAMES: &[&str] = &[
    "text",
    "value",
    "string",
    "String",
    "Text",
    "prompt",
    "populated_text",
    "wildcard_text",
];
/// The pieces of nodes that join texts.
const JOINED: &[&[&str]] = &[
    &["string_a", "string_b"],
    &["text_a", "text_b", "text_c", "text_d"],
    &["text1", "text2", "text3"],
    &["string1", "string2"],
];

/// Reads a graph. `None`: nothing in it draws.
pub fn read(graph: &Graph) -> Option<Sheet> {
    let samplers = samplers(graph);
    let first = *samplers.bases.first()?;
    let mut reader = Reader {
        graph,
        sheet: Sheet::new("ComfyUI"),
        pieces: 0,
    };
    if samplers.bases.len() > 1 {
        let count = samplers.bases.len();
        reader.sheet.note(format!(
            "Its graph draws {count} pictures; the settings are those of the first."
        ));
    }
    reader.sheet.noise(SeedMode::ComfyUi);
    reader.sampler(first);
    for later in &samplers.later {
        reader.later(first, later);
    }
    reader.picture();
    Some(reader.sheet)
}

/// The nodes that draw: those that begin, and those that go on from another's result.
struct Samplers<'g> {
    bases: Vec<&'g Node>,
    later: Vec<&'g Node>,
}

fn is_sampler(node: &Node) -> bool {
    let latent = node.has("latent_image");
    latent
        && ["seed", "noise_seed", "noise"]
            .iter()
            .any(|name| node.has(name))
}

/// Of all samplers that lead to an end of the graph, each is asked whether another lies behind it.
fn samplers(graph: &Graph) -> Samplers<'_> {
    let ends = graph.ends();
    let leading: BTreeSet<&str> = graph
        .upstream(&ends)
        .into_iter()
        .map(|node| node.id.as_str())
        .collect();
    let mut all = graph.nodes();
    all.retain(|node| is_sampler(node));
    if all.iter().any(|node| leading.contains(node.id.as_str())) {
        all.retain(|node| leading.contains(node.id.as_str()));
    }
    all.truncate(MOST_SAMPLERS);
    let (later, bases) = all.iter().partition(|node| {
        let latent = graph.source(node, "latent_image");
        latent.is_some_and(|(latent, _)| graph.upstream(&[latent]).into_iter().any(is_sampler))
    });
    let mut samplers = Samplers { bases, later };
    if samplers.bases.is_empty() {
        samplers.bases = std::mem::take(&mut samplers.later);
    }
    samplers
}

struct Reader<'g> {
    graph: &'g Graph,
    sheet: Sheet,
    /// Of texts, so far.
    pieces: usize,
}

impl<'g> Reader<'g> {
    fn number<T: std::str::FromStr>(&mut self, node: &Node, input: &str) -> Option<T> {
        let value = words(self.graph.value(node, input, NUMBER_NAMES)?)?;
        let number = parse(&value);
        if number.is_none() {
            let value = short(&value);
            self.sheet.note(format!(
                "\"{input}: {value}\" cannot be read and is left out."
            ));
        }
        number
    }

    fn name(&self, node: &Node, input: &str) -> Option<String> {
        let value = self.graph.value(node, input, TEXT_NAMES)?;
        value.as_str().map(str::to_owned)
    }

    fn sampler(&mut self, node: &'g Node) {
        self.seed(node);
        self.sheet.request.steps = self.number(node, "steps");
        self.sheet.request.guidance_scale = self.number(node, "cfg");
        if let Some(name) = self.name(node, "scheduler") {
            self.sheet.schedule(&name);
        }
        if let Some(name) = self.name(node, "sampler_name") {
            self.sheet.sampler(&name);
        }
        self.custom(node);
        self.part_of_the_steps(node);
        // `SamplerCustomAdvanced` has the rest behind its guider.
        let guider = self.graph.source(node, "guider").map(|(guider, _)| guider);
        if let Some(guider) = guider {
            self.guider(guider);
        }
        let words = guider.unwrap_or(node);
        let positive = if words.has("positive") {
            "positive"
        } else {
            "conditioning"
        };
        let prompt = self.words(words, positive);
        let negative = self.words(words, "negative");
        self.sheet.prompts(&prompt, &negative);
        self.sheet.request.emphasis = Emphasis::Comfyui;
        self.model(words);
        let denoise = self.denoise(node);
        self.latent(node, denoise);
    }

    fn seed(&mut self, node: &'g Node) {
        let noise = self.graph.source(node, "noise").map(|(noise, _)| noise);
        let (node, input) = match noise {
            Some(noise) => (noise, "noise_seed"),
            None if node.has("noise_seed") => (node, "noise_seed"),
            None => (node, "seed"),
        };
        self.sheet.request.seed = self.number(node, input);
    }

    fn guider(&mut self, guider: &'g Node) {
        self.sheet.request.guidance_scale = match guider.class.as_str() {
            "BasicGuider" => Some(1.0),
            _ => self.number(guider, "cfg"),
        };
        if !matches!(guider.class.as_str(), "CFGGuider" | "BasicGuider") {
            self.lacks_node(guider);
        }
    }

    /// The nodes for samplers and schedules one by one.
    fn custom(&mut self, node: &'g Node) {
        if let Some((sampler, _)) = self.graph.source(node, "sampler") {
            let name = self.name(sampler, "sampler_name");
            let class = || sampler.class.trim_start_matches("Sampler").to_owned();
            self.sheet.sampler(&name.unwrap_or_else(class));
            self.sheet.request.tuning.eta = self.number(sampler, "eta");
            self.sheet.request.tuning.s_noise = self.number(sampler, "s_noise");
            let heun = self
                .name(sampler, "solver_type")
                .is_some_and(|kind| kind == "heun");
            if heun && self.sheet.request.sampler == Some(SamplerId::DpmPp2mSde) {
                self.sheet.request.sampler = Some(SamplerId::DpmPp2mSdeHeun);
            }
        }
        let mut sigmas = self.graph.source(node, "sigmas").map(|(sigmas, _)| sigmas);
        for _ in 0..LONGEST_WAY {
            let Some(node) = sigmas.filter(|node| !node.has("steps") && node.has("sigmas")) else {
                break;
            };
            self.lacks_node(node);
            sigmas = self.graph.source(node, "sigmas").map(|(sigmas, _)| sigmas);
        }
        if let Some(sigmas) = sigmas {
            self.sigmas(sigmas);
        }
    }

    fn sigmas(&mut self, node: &'g Node) {
        self.sheet.request.steps = self.number(node, "steps");
        let xl = self
            .name(node, "model_type")
            .is_some_and(|kind| kind == "SDXL");
        let schedule = match node.class.as_str() {
            "KarrasScheduler" => Some(ScheduleId::Karras),
            "ExponentialScheduler" => Some(ScheduleId::Exponential),
            "PolyexponentialScheduler" => Some(ScheduleId::Polyexponential),
            "BetaSamplingScheduler" => Some(ScheduleId::Beta),
            "AlignYourStepsScheduler" if xl => Some(ScheduleId::AlignYourStepsXl),
            "AlignYourStepsScheduler" => Some(ScheduleId::AlignYourSteps),
            _ => None,
        };
        match (schedule, self.name(node, "scheduler")) {
            (None, name) => self.sheet.schedule(name.as_deref().unwrap_or(&node.class)),
            (Some(schedule), _) => {
                self.sheet.request.schedule = Some(schedule);
                let tuning = &mut self.sheet.request.tuning;
                let number =
                    |input: &str| parse(&words(self.graph.value(node, input, NUMBER_NAMES)?)?);
                tuning.sigma_max = number("sigma_max");
                tuning.sigma_min = number("sigma_min");
                tuning.rho = number("rho");
            }
        }
    }

    /// 1 where a node of the sampler's says nothing.
    fn denoise(&mut self, node: &'g Node) -> f64 {
        let sigmas = self.graph.source(node, "sigmas").map(|(sigmas, _)| sigmas);
        let own = self.number(node, "denoise");
        own.or_else(|| self.number(sigmas?, "denoise"))
            .unwrap_or(1.0)
    }

    /// `KSamplerAdvanced` can begin late and end early.
    fn part_of_the_steps(&mut self, node: &'g Node) {
        let (Some(begin), Some(end)) = (
            self.number::<u32>(node, "start_at_step"),
            self.number::<u32>(node, "end_at_step"),
        ) else {
            return;
        };
        let steps = self.sheet.request.steps.unwrap_or(u32::MAX);
        if begin > 0 || end < steps {
            self.sheet.note(format!(
                "Its first pass went from step {begin} to {} of {steps} only.",
                end.min(steps)
            ));
        }
    }

    /// A sampler that goes on from the result of the first.
    fn later(&mut self, first: &Node, node: &'g Node) {
        let words = self
            .graph
            .source(node, "guider")
            .map_or(node, |(guider, _)| guider);
        let model_of = |node| {
            self.checkpoint(node)
                .and_then(|loader| self.checkpoint_name(loader))
        };
        let model = model_of(words);
        let first_words = self
            .graph
            .source(first, "guider")
            .map_or(first, |(guider, _)| guider);
        match model {
            Some(model) if Some(&model) != model_of(first_words).as_ref() => {
                if let Some(start) = self.taken_over_at(node) {
                    self.sheet.refiner(&model, None, Some(start));
                } else {
                    let name = NamedFile::new(&model, None).name;
                    self.sheet
                        .lacks(format!("a second pass by the model {name}"));
                }
            }
            _ => self.sheet.second_pass(),
        }
    }

    /// Of a `KSamplerAdvanced` that draws the last steps: the share of the steps before it.
    fn taken_over_at(&mut self, node: &Node) -> Option<f64> {
        let begin: u32 = self.number(node, "start_at_step")?;
        let steps: u32 = self.number(node, "steps")?;
        let handed_over = begin > 0 && begin < steps && self.sheet.request.steps == Some(steps);
        handed_over.then(|| f64::from(begin) / f64::from(steps))
    }

    fn may_go_deeper(&mut self, depth: usize) -> bool {
        self.pieces += 1;
        depth < DEEPEST_TEXT && self.pieces < MOST_PIECES
    }

    /// The words behind a conditioning input.
    fn words(&mut self, node: &'g Node, input: &str) -> String {
        let kind = if input == "negative" {
            input
        } else {
            "positive"
        };
        self.words_at(node, input, kind, 0)
    }

    /// `kind`: which of the two is followed through nodes that hold both.
    fn words_at(&mut self, node: &'g Node, input: &str, kind: &str, depth: usize) -> String {
        let (mut node, mut input) = (node, input);
        for _ in 0..LONGEST_WAY {
            let Some((source, _)) = self.graph.source(node, input) else {
                break;
            };
            if let Some(text) = self.encoded(source) {
                return text;
            }
            // Loaders of extensions hold the words themselves.
            let own = source.values().find(|(name, _)| *name == kind);
            if let Some((_, Value::String(text))) = own {
                return text.clone();
            }
            if let Some(text) = self.two_in_one(source, kind, depth) {
                return text;
            }
            self.on_the_way(source);
            let next = ["conditioning", kind]
                .into_iter()
                .find(|name| source.has(name));
            let Some(next) = next.filter(|_| source.class != "ConditioningZeroOut") else {
                break;
            };
            (node, input) = (source, next);
        }
        String::new()
    }

    /// The words of a node that makes one conditioning of two. `None`: it is another node.
    fn two_in_one(&mut self, node: &'g Node, kind: &str, depth: usize) -> Option<String> {
        let [a, b] = [
            ["conditioning_1", "conditioning_2"],
            ["conditioning_to", "conditioning_from"],
        ]
        .into_iter()
        .find(|names| names.iter().all(|name| node.has(name)))
        .filter(|_| self.may_go_deeper(depth))?;
        let a = self.words_at(node, a, kind, depth + 1);
        let b = self.words_at(node, b, kind, depth + 1);
        self.lacks_node(node);
        Some(format!("{a}, {b}"))
    }

    /// The text of a node that turns words into a conditioning. `None`: it is another node.
    fn encoded(&mut self, node: &'g Node) -> Option<String> {
        if !node.has("clip") && !node.class.contains("TextEncode") {
            return None;
        }
        let text = if node.has("text") {
            self.text(node, "text", 0)
        } else {
            let pair = [("text_g", "text_l"), ("t5xxl", "clip_l")];
            let (a, b) = pair.into_iter().find(|(a, _)| node.has(a))?;
            let (first, second) = (self.text(node, a, 0), self.text(node, b, 0));
            if first.is_empty() || first == second {
                second
            } else if second.is_empty() {
                first
            } else {
                self.sheet.note(
                    "Its two text encoders were given different words; here they follow each other.",
                );
                format!("{first}, {second}")
            }
        };
        self.clip(node);
        Some(text)
    }

    /// A text, also from nodes that hold or join texts.
    fn text(&mut self, node: &'g Node, input: &str, depth: usize) -> String {
        if let Some(text) = self.graph.value(node, input, TEXT_NAMES).and_then(words) {
            return text;
        }
        let Some((source, _)) = self.graph.source(node, input) else {
            return String::new();
        };
        let pieces = JOINED
            .iter()
            .find(|names| names.iter().any(|name| source.has(name)));
        let Some(names) = pieces.filter(|_| self.may_go_deeper(depth)) else {
            self.sheet.note(format!(
                "Words of its prompt come from the node {}, which Easel cannot follow.",
                short(&source.class)
            ));
            return String::new();
        };
        let delimiter = self.name(source, "delimiter").unwrap_or_default();
        let pieces: Vec<String> = names
            .iter()
            .filter(|name| source.has(name))
            .map(|name| self.text(source, name, depth + 1))
            .filter(|piece| !piece.is_empty())
            .collect();
        pieces.join(&delimiter)
    }

    /// What is done to the text encoder between its file and the words.
    fn clip(&mut self, node: &'g Node) {
        let mut node = node;
        for _ in 0..LONGEST_WAY {
            let Some((source, _)) = self.graph.source(node, "clip") else {
                return;
            };
            let stop: Option<i64> = self.number(source, "stop_at_clip_layer");
            let skip = stop.and_then(|stop| u32::try_from(stop.unsigned_abs()).ok());
            if let Some(skip) = skip.filter(|skip| *skip > 1) {
                self.sheet.request.clip_skip = Some(skip);
            }
            node = source;
        }
    }

    /// The nodes between a sampler and its model's file, LoRAs among them.
    fn model(&mut self, node: &'g Node) {
        let mut loras: Vec<&'g Node> = Vec::new();
        let mut node = node;
        for _ in 0..LONGEST_WAY {
            let Some(source) = self.model_source(node) else {
                break;
            };
            if self.checkpoint_name(source).is_some() {
                self.loader(source);
                break;
            }
            if is_lora(source) {
                loras.push(source);
            } else if source.class == "RescaleCFG" {
                self.sheet.request.guidance_rescale = self.number(source, "multiplier");
            } else {
                self.on_the_way(source);
            }
            node = source;
        }
        for lora in loras.into_iter().rev() {
            self.lora(lora);
        }
    }

    fn model_source(&self, node: &Node) -> Option<&'g Node> {
        let named = node.link_names().filter(|name| name.contains("model"));
        let names = ["model"].into_iter().chain(named);
        let mut found = names.filter_map(|name| self.graph.source(node, name));
        found.next().map(|(source, _)| source)
    }

    fn checkpoint(&self, node: &'g Node) -> Option<&'g Node> {
        let mut node = node;
        for _ in 0..LONGEST_WAY {
            node = self.model_source(node)?;
            if self.checkpoint_name(node).is_some() {
                return Some(node);
            }
        }
        None
    }

    fn checkpoint_name(&self, node: &Node) -> Option<String> {
        let names = ["ckpt_name", "unet_name", "model_path"];
        names.iter().find_map(|name| self.name(node, name))
    }

    /// A node that loads a model; in extensions it may hold much more.
    fn loader(&mut self, node: &'g Node) {
        let name = self.checkpoint_name(node).unwrap_or_default();
        self.sheet.model(&name, None);
        if let Some(vae) = self.name(node, "vae_name").filter(|vae| vae != "Baked VAE") {
            self.sheet.vae(&vae);
        }
        let skip: Option<i64> = self.number(node, "clip_skip");
        let skip = skip.and_then(|skip| u32::try_from(skip.unsigned_abs()).ok());
        self.sheet.request.clip_skip = self
            .sheet
            .request
            .clip_skip
            .or(skip.filter(|skip| *skip > 1));
        if is_lora(node) {
            self.lora(node);
        }
    }

    fn lora(&mut self, node: &'g Node) {
        if let Some(name) = self.name(node, "lora_name").filter(|name| name != "None") {
            let weight = ["strength_model", "lora_model_strength", "strength"]
                .iter()
                .find_map(|input| self.number(node, input))
                .unwrap_or(1.0);
            let clip = ["strength_clip", "lora_clip_strength"]
                .iter()
                .find_map(|input| self.number(node, input));
            // `LoraLoaderModelOnly` leaves the text encoder alone.
            let only = if node.has("clip") { weight } else { 0.0 };
            self.sheet.lora(&name, weight, clip.unwrap_or(only), None);
        }
        // rgthree's "Power Lora Loader" has a list of its own.
        for (_, value) in node.values().filter(|(name, _)| name.starts_with("lora_")) {
            let (Some(name), true) = (
                value.get("lora").and_then(Value::as_str),
                value.get("on").and_then(Value::as_bool).unwrap_or(false),
            ) else {
                continue;
            };
            let weight = value.get("strength").and_then(Value::as_f64).unwrap_or(1.0);
            let clip = value.get("strengthTwo").and_then(Value::as_f64);
            self.sheet.lora(name, weight, clip.unwrap_or(weight), None);
        }
    }

    /// What the sampler began with.
    fn latent(&mut self, node: &'g Node, denoise: f64) {
        let (mut node, mut input) = (node, "latent_image");
        for _ in 0..LONGEST_WAY {
            let Some((source, _)) = self.graph.source(node, input) else {
                return;
            };
            for (width, height) in [
                ("width", "height"),
                ("empty_latent_width", "empty_latent_height"),
            ] {
                if source.has(width) && source.has(height) && !source.has("samples") {
                    let size = (self.number(source, width), self.number(source, height));
                    self.sheet.size(size.0, size.1);
                    self.batch(source);
                    return;
                }
            }
            if source.has("pixels") {
                self.sheet
                    .over_a_picture(Some(denoise).filter(|denoise| *denoise < 1.0));
                return;
            }
            self.on_the_way(source);
            let next = ["samples", "latent", "latent_image"]
                .into_iter()
                .find(|name| source.has(name));
            let Some(next) = next else {
                return;
            };
            (node, input) = (source, next);
        }
    }

    fn batch(&mut self, node: &'g Node) {
        let count: Option<u32> = self.number(node, "batch_size");
        if let Some(count) = count.filter(|count| *count > 1) {
            self.sheet.note(format!(
                "It is one of {count} pictures drawn together; only the first begins with the noise of the seed."
            ));
        }
    }

    /// What was done between drawing and saving, and which VAE decoded.
    fn picture(&mut self) {
        for end in self.graph.ends().into_iter().take(MOST_SAMPLERS) {
            let mut node = end;
            for _ in 0..LONGEST_WAY {
                let names = ["images", "image", "pixels"];
                let next = names.iter().find_map(|name| self.graph.source(node, name));
                let Some((source, _)) = next else {
                    break;
                };
                if source.has("samples") && source.has("vae") {
                    self.vae(source);
                    break;
                }
                if is_sampler(source) {
                    break;
                }
                self.on_the_way(source);
                node = source;
            }
        }
    }

    fn vae(&mut self, decoder: &'g Node) {
        let loader = self.graph.source(decoder, "vae").map(|(loader, _)| loader);
        if let Some(name) = loader
            .filter(|loader| self.checkpoint_name(loader).is_none())
            .and_then(|loader| self.name(loader, "vae_name"))
        {
            self.sheet.vae(&name);
        }
    }

    /// Names a node on the way that does something which Easel lacks.
    fn on_the_way(&mut self, node: &'g Node) {
        for (input, file, what) in [
            ("control_net", "control_net_name", "the ControlNet"),
            ("upscale_model", "model_name", "the upscaler"),
            ("ipadapter", "ipadapter_file", "the IP adapter"),
            ("style_model", "style_model_name", "the style model"),
        ] {
            if let Some((loader, _)) = self.graph.source(node, input) {
                let name = self.name(loader, file).unwrap_or_default();
                self.sheet.lacks(format!("{what} {name}").trim_end());
                return;
            }
        }
        self.lacks_node(node);
    }

    fn lacks_node(&mut self, node: &Node) {
        self.sheet.lacks(format!("the node {}", node.class));
    }
}

fn is_lora(node: &Node) -> bool {
    node.has("lora_name") || node.values().any(|(_, value)| value.get("lora").is_some())
}

/// Civitai's own graphs carry what was asked for beside the nodes, as JSON in a text.
///
/// Source: civitai/civitai `src/utils/metadata/comfy.metadata.ts` (`extraMetadata`).
pub fn extra_metadata(sheet: &mut Sheet, extra: &super::fields::Fields<'_>) {
    if let Some(prompt) = extra.text("prompt") {
        sheet.prompts(prompt, extra.text("negativePrompt").unwrap_or_default());
    }
    let request = &mut sheet.request;
    let number = |key: &str| extra.words(key);
    request.steps = number("steps")
        .and_then(|text| parse(&text))
        .or(request.steps);
    request.seed = number("seed")
        .and_then(|text| parse(&text))
        .or(request.seed);
    let scale = number("cfgScale").and_then(|text| parse(&text));
    request.guidance_scale = scale.or(request.guidance_scale);
    let (width, height) = (number("width"), number("height"));
    request.width_px = width.and_then(|text| parse(&text)).or(request.width_px);
    request.height_px = height.and_then(|text| parse(&text)).or(request.height_px);
    if let Some(name) = extra.text("sampler") {
        request.schedule = None;
        sheet.sampler(name);
        sheet.usual_schedule(SamplerId::automatic_schedule);
    }
    for resource in extra.list("resources") {
        if let Some(id) = resource.get("modelVersionId").and_then(Value::as_u64) {
            sheet.note(format!(
                "It was drawn with the file {id} of Civitai's catalogue."
            ));
        }
    }
}
