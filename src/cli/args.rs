//! The words of the command line. Their help is the manual: plain, with examples.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::{Error as Wrong, ErrorKind};
use clap::{Args, Parser, Subcommand};

use crate::output::names;
use crate::request::{
    Arithmetic, DeviceChoice, DtypeChoice, EMPHASES, Emphasis, GenerationRequest, GuidanceInterval,
    LoraChoice, PictureFormat, PictureHints, RefinerChoice, SAMPLERS, SCHEDULES, SEED_MODES,
    SamplerId, SaveTarget, ScheduleId, SeedMode, Seeding, Tuning, Upscale,
};

const EXAMPLES: &str = "\
Examples:
  easel                                        open the window
  easel generate \"a penguin, 3d style\"         draw one picture into your pictures folder
  easel info picture.png                       say how a picture was drawn
  easel generate --help                        everything about drawing

Exit codes: 0 done, 1 failed, 2 wrong arguments, 130 interrupted.";

// clap's own would list every option that was given as if it had to be.
const GENERATE_USAGE: &str = "\
easel generate [OPTIONS] <PROMPT>
       easel generate [OPTIONS] --settings-from <IMAGE> [PROMPT]";

const GENERATE_EXAMPLES: &str = "\
Examples:
  easel generate \"a penguin, 3d style\"
      One picture with the model's own settings, into your pictures folder.
  easel generate \"a cat face, flat style\" --seed 7 --count 4 --output cats/
      Four pictures, seeds 7 to 10, into the folder cats.
  easel generate \"a star\" --output star.webp --steps 30 --guidance 5 --sampler euler_a
      Exactly this file; its ending chooses PNG, JPEG or WebP.
  easel generate --settings-from old.png --seed 8
      As the picture was drawn, whichever program drew it, with another seed.
  easel generate \"a bear\" --json | while read -r line; do echo \"$line\"; done
      For scripts: what happens, one JSON object a line.

Standard output holds the path of each saved picture, one a line; everything else goes to standard
error. Ctrl-C stops after the current step; a second Ctrl-C stops at once.

With --json, each line of standard output is an object with a key \"event\":
  settings  path, program, notes               with --settings-from
  note      message                            a slip in a prompt, an option that changes nothing
  loading   model, fraction                    the model is being read (0 to 1)
  model     name, device, dtype, notes         the model is ready
  started   model, seeds, steps, width, height, output_width, output_height
  progress  stage, fraction, first, batch, step, steps, steps_per_sec, remaining_secs
            pictures first..first+batch of the job are drawn together; stage is one of
            loading_model, reading_prompt, drawing, decoding, enlarging, saving
  preview   index, step, path                  with --preview
  picture   index, path, settings, error       path is null where nothing was saved
  and last one of: finished (elapsed_secs), failed (message, details, remedy), cancelled

Exit codes: 0 done, 1 failed, 2 wrong arguments, 130 interrupted.";

/// Draws pictures from words on your own machine.
///
/// Without a command, the window opens.
#[derive(Debug, Parser)]
#[command(name = "easel", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// With an error, also show its technical cause
    #[arg(long, short, global = true, display_order = 100)]
    pub verbose: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Open the window (the same as no command)
    Window,
    Generate(Box<Generate>),
    Inspect(Inspect),
    Convert(Convert),
    Info(Info),
    Models(Models),
}

/// Draw pictures without a window.
///
/// What is not said is as the model's makers set it. The same words, settings and seed give the
/// same picture as in the window.
#[derive(Args, Debug)]
#[command(after_help = GENERATE_EXAMPLES, override_usage = GENERATE_USAGE)]
pub struct Generate {
    /// What to draw, in quotes
    #[arg(required_unless_present = "settings_from")]
    pub prompt: Option<String>,

    /// Take the settings that a picture carries, of Easel or of another program; what is said beside
    /// them wins
    #[arg(long, value_name = "IMAGE")]
    pub settings_from: Option<PathBuf>,

    /// What to keep out of the picture
    #[arg(long, value_name = "TEXT")]
    pub negative: Option<String>,

    /// How (brackets:1.2) weigh words; left out: original
    #[arg(long, value_name = "NAME", value_parser = emphasis())]
    pub emphasis: Option<Emphasis>,

    /// The folder of the lists that `__name__` in a prompt draws from; without it, a folder
    /// `wildcards` in or beside the model folders, and sd-dynamic-prompts' own
    #[arg(long, value_name = "FOLDER")]
    pub wildcards: Option<PathBuf>,

    /// A model folder or file; left out: the small model that comes with Easel
    #[arg(long, value_name = "PATH")]
    pub model: Option<PathBuf>,

    /// A UNet, file or folder, in place of the model's own: a .gguf of ComfyUI holds nothing else
    #[arg(long, value_name = "PATH")]
    pub unet: Option<PathBuf>,

    /// A VAE, file or folder, in place of the model's own
    #[arg(long, value_name = "PATH")]
    pub vae: Option<PathBuf>,

    /// A LoRA file and how much it counts (1 as trained): `style.safetensors:0.8`; may be repeated.
    /// A prompt can name LoRAs too: `<lora:style:0.8>`, looked for in the model folders
    #[arg(long, value_name = "PATH[:WEIGHT]", value_parser = lora)]
    pub lora: Vec<LoraChoice>,

    /// An embedding (textual inversion) file that the prompts may name; may be repeated. Those in the
    /// `embeddings` folder of a model folder need no option
    #[arg(long, value_name = "PATH")]
    pub embedding: Vec<PathBuf>,

    /// A second model, file or folder, that draws the last steps: SDXL's refiner
    #[arg(long, value_name = "PATH")]
    pub refiner: Option<PathBuf>,

    /// From which share of the noise on the refiner draws, 0 (all) to 1 (nothing); left out: 0.8
    #[arg(long, value_name = "F", value_parser = share)]
    pub refiner_start: Option<f64>,

    /// The size that an SDXL picture is said to be made from; a small one is blurred
    #[arg(long, value_name = "WxH", value_parser = size)]
    pub original_size: Option<[u32; 2]>,

    /// How many pixels an SDXL picture is said to have lost on the left and at the top
    #[arg(long, value_name = "X,Y", value_parser = crop)]
    pub crop: Option<[u32; 2]>,

    /// The size that an SDXL picture is said to have
    #[arg(long, value_name = "WxH", value_parser = size)]
    pub target_size: Option<[u32; 2]>,

    /// How beautiful SDXL's refiner is told that the picture is, 0 to 10; left out: 6
    #[arg(long, value_name = "F", value_parser = score)]
    pub aesthetic_score: Option<f64>,

    /// The same for what to keep out; left out: 2.5
    #[arg(long, value_name = "F", value_parser = score)]
    pub negative_aesthetic_score: Option<f64>,

    /// Drawing steps, 1 to 1000: more take longer and can show more detail
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub steps: Option<u32>,

    /// How closely the picture follows the prompt (CFG scale), 0 to 100
    #[arg(long, value_name = "F", value_parser = guidance)]
    pub guidance: Option<f64>,

    /// Bring strong guidance back to the prompt's own contrast, 0 to 1; for models that predict v, 0.7
    #[arg(long, value_name = "F", value_parser = share)]
    pub guidance_rescale: Option<f64>,

    /// Guide only from and up to these shares of the steps, 0 to 1: `0.2:0.8`; the steps outside take
    /// half the time
    #[arg(long, value_name = "START:END", value_parser = interval)]
    pub guidance_interval: Option<GuidanceInterval>,

    /// Which layer of the text encoder is listened to, counted from its last, 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub clip_skip: Option<u32>,

    /// The number that the first picture grows from: the same seed draws the same picture; -1 or left
    /// out: a new one
    #[arg(long, value_name = "N", value_parser = seed, allow_negative_numbers = true)]
    pub seed: Option<Seed>,

    /// Whose noise grows from the seed, diffusers' where nothing is said: choose the program whose
    /// pictures are to be drawn again
    #[arg(long, value_name = "NAME", value_parser = seed_mode())]
    pub seed_mode: Option<SeedMode>,

    /// A second seed whose noise is mixed in; counts on with --count, where the first one stays
    #[arg(long, value_name = "N", requires = "variation_strength")]
    pub variation_seed: Option<u64>,

    /// How far the picture goes over to the second seed (a new one where none is said), 0 to 1
    #[arg(long, value_name = "F", value_parser = share)]
    pub variation_strength: Option<f64>,

    /// Keep the composition that the seed has at this size: its noise in the middle of this picture's
    #[arg(long, value_name = "WxH", value_parser = size)]
    pub seed_resize: Option<[u32; 2]>,

    /// Added to the seed for the noise that samplers add on the way (A1111's eta noise seed delta)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub ensd: Option<i64>,

    /// Width of the drawing in pixels, before enlarging
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub width: Option<u32>,

    /// Height of the drawing in pixels, before enlarging
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub height: Option<u32>,

    /// How the picture is reached from noise; other programs' names are read too (`"DPM++ 2M Karras"`
    /// is sampler and schedule)
    #[arg(long, value_name = "NAME", value_parser = sampler())]
    pub sampler: Option<NamedSampler>,

    /// How the steps are spread over the noise
    #[arg(long, value_name = "NAME", value_parser = schedule())]
    pub schedule: Option<ScheduleId>,

    /// The share of fresh noise, 0 to 1, of samplers that add some (ddim has 0, tcd 0.3, others 1)
    #[arg(long, value_name = "F", value_parser = eta)]
    pub eta: Option<f64>,

    /// How many pictures; each has the seed after the one before
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub count: Option<u32>,

    /// Enlarge the finished picture: auto (as the model says), none, or the file of a network
    /// (Real-ESRGAN compact)
    #[arg(long, value_name = "auto|none|PATH", value_parser = upscale)]
    pub upscale: Option<Upscale>,

    /// What computes: auto takes the graphics card where one works
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = device())]
    pub device: DeviceChoice,

    /// Number format: f32 is exact, f16 and bf16 take half the memory
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = dtype())]
    pub dtype: DtypeChoice,

    /// On a processor: compute everything as libtorch's operators do, to the last bit; without it
    /// convolutions take fewer operations, and values differ by some millionths
    #[arg(long)]
    pub exact: bool,

    /// A file (.png, .jpg or .webp), or a folder that gets numbered files; left out: your pictures
    /// folder
    #[arg(long, short, value_name = "FILE|FOLDER", value_parser = output)]
    pub output: Option<Output>,

    /// Also write the finished latents (the picture before decoding), f32, under the key `latents`
    #[arg(long, value_name = "FILE.safetensors")]
    pub save_latents: Option<PathBuf>,

    /// Also write the picture while it forms, as PNG files into this folder: after each step but the
    /// last, steps left out where decoding would slow the drawing
    #[arg(long, value_name = "FOLDER")]
    pub preview: Option<PathBuf>,

    /// Write what happens to standard output, one JSON object a line
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,

    /// Measure and print where the time of the drawing goes, by network and kind of layer
    #[arg(long)]
    pub profile: bool,

    /// Show no progress: only the paths of the pictures, and errors
    #[arg(long, short)]
    pub quiet: bool,
}

/// Tell what a model file or folder is.
///
/// Reads configs and headers only, so that it takes no time whatever the size.
#[derive(Args, Debug)]
pub struct Inspect {
    /// A model folder or the folder of a part (`unet/`), or a file (.safetensors, .ckpt, .pt, .gguf)
    pub path: PathBuf,
    /// Tell how each 3x3 convolution is computed on this processor: directly, or with fewer products
    /// (Winograd)
    #[arg(long)]
    pub plan: bool,
    /// The picture's size for --plan; left out: the model's own
    #[arg(long, value_name = "WxH", value_parser = size, requires = "plan")]
    pub size: Option<[u32; 2]>,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Write a model anew: as a folder, or as one file.
///
/// Reads every model that Easel opens (folders, .safetensors, .ckpt, .gguf) and writes it as a folder
/// in the diffusers layout, or, where OUT ends in .safetensors, as a single file with the names that
/// AUTOMATIC1111 and ComfyUI read. A LoRA, VAE or embedding becomes a .safetensors file with the same
/// tensors. Reads and writes a tensor at a time; OUT is whole or not there, and nothing is replaced.
#[derive(Args, Debug)]
pub struct Convert {
    /// A model folder or file
    #[arg(value_name = "IN")]
    pub from: PathBuf,
    /// NAME.safetensors for a single file; a name without an ending for a folder
    #[arg(value_name = "OUT")]
    pub to: PathBuf,
    /// A UNet, file or folder, in place of the model's own
    #[arg(long, value_name = "PATH")]
    pub unet: Option<PathBuf>,
    /// A VAE, file or folder, in place of the model's own
    #[arg(long, value_name = "PATH")]
    pub vae: Option<PathBuf>,
    /// Number format
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = written_dtype())]
    pub dtype: DtypeChoice,
}

/// Tell what settings a picture carries.
///
/// Reads PNG, JPEG and WebP files of Easel, AUTOMATIC1111, Forge, ComfyUI, SwarmUI, Fooocus, InvokeAI,
/// Draw Things, NovelAI, stable-diffusion.cpp, Stability Matrix and Civitai. The settings go to standard
/// output, what Easel cannot follow to standard error.
#[derive(Args, Debug)]
pub struct Info {
    /// The picture
    pub image: PathBuf,
    /// As one JSON object: program, infotext, settings (Easel's own record or null), request, notes
    #[arg(long)]
    pub json: bool,
}

/// List the models that are found.
///
/// The one that comes with Easel, and those in the model folders that were chosen in the window.
#[derive(Args, Debug)]
pub struct Models {
    /// Look in these folders too
    #[arg(value_name = "FOLDER")]
    pub folders: Vec<PathBuf>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// What `--seed` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seed {
    /// -1, as in AUTOMATIC1111.
    New,
    Number(u64),
}

/// A sampler, and the schedule where its name holds that too.
pub type NamedSampler = (SamplerId, Option<ScheduleId>);

/// Where `--output` sends pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    File(PathBuf, PictureFormat),
    Folder(PathBuf),
}

impl Generate {
    /// The request, as the window would word it: what is said over `base`, a picture's settings.
    pub fn request(&self, base: GenerationRequest) -> GenerationRequest {
        let loras = if self.lora.is_empty() {
            base.loras
        } else {
            self.lora.clone()
        };
        let other = |path: PathBuf| RefinerChoice {
            path,
            start: RefinerChoice::START,
        };
        let refiner = self.refiner.clone().map(other).or(base.refiner);
        let refiner = refiner.map(|refiner| RefinerChoice {
            start: self.refiner_start.unwrap_or(refiner.start),
            ..refiner
        });
        let embeddings = if self.embedding.is_empty() {
            base.embeddings
        } else {
            self.embedding.clone()
        };
        let (sampler, of_sampler) = match self.sampler {
            Some((sampler, schedule)) => (Some(sampler), schedule),
            None => (None, None),
        };
        GenerationRequest {
            prompt: self.prompt.clone().unwrap_or(base.prompt),
            negative_prompt: self.negative.clone().unwrap_or(base.negative_prompt),
            emphasis: self.emphasis.unwrap_or(base.emphasis),
            wildcards: self.wildcards.clone().or(base.wildcards),
            model: self.model.clone().or(base.model),
            unet: self.unet.clone().or(base.unet),
            vae: self.vae.clone().or(base.vae),
            loras,
            embeddings,
            refiner,
            hints: PictureHints {
                original_size: self.original_size.or(base.hints.original_size),
                crop: self.crop.or(base.hints.crop),
                target_size: self.target_size.or(base.hints.target_size),
                aesthetic_score: self.aesthetic_score.or(base.hints.aesthetic_score),
                negative_aesthetic_score: self
                    .negative_aesthetic_score
                    .or(base.hints.negative_aesthetic_score),
            },
            hashes: base.hashes,
            steps: self.steps.or(base.steps),
            guidance_scale: self.guidance.or(base.guidance_scale),
            guidance_rescale: self.guidance_rescale.or(base.guidance_rescale),
            guidance_interval: self.guidance_interval.or(base.guidance_interval),
            clip_skip: self.clip_skip.or(base.clip_skip),
            width_px: self.width.or(base.width_px),
            height_px: self.height.or(base.height_px),
            seed: match self.seed {
                Some(Seed::New) => None,
                Some(Seed::Number(seed)) => Some(seed),
                None => base.seed,
            },
            seeding: Seeding {
                mode: self.seed_mode.unwrap_or(base.seeding.mode),
                variation_seed: self.variation_seed.or(base.seeding.variation_seed),
                variation_strength: self.variation_strength.or(base.seeding.variation_strength),
                resize_from: self.seed_resize.or(base.seeding.resize_from),
                ensd: self.ensd.or(base.seeding.ensd),
                batch_index: base.seeding.batch_index,
            },
            count: self.count.or(base.count),
            batch_size: base.batch_size,
            sampler: sampler.or(base.sampler),
            schedule: self.schedule.or(of_sampler).or(base.schedule),
            tuning: Tuning {
                eta: self.eta.or(base.tuning.eta),
                ..base.tuning
            },
            upscale: self.upscale.clone().unwrap_or(base.upscale),
            device: self.device,
            dtype: self.dtype,
            arithmetic: if self.exact {
                Arithmetic::Exact
            } else {
                Arithmetic::Fast
            },
        }
    }

    /// Where the pictures go: `library` and `format` are the window's, for what is not said here.
    pub fn target(&self, library: PathBuf, format: PictureFormat) -> (SaveTarget, PictureFormat) {
        match &self.output {
            None => (SaveTarget::Library(library), format),
            Some(Output::Folder(folder)) => (SaveTarget::Folder(folder.clone()), format),
            Some(Output::File(file, format)) => (SaveTarget::File(file.clone()), *format),
        }
    }
}

/// An ending makes a file; a folder has none, or is there, or ends in a slash.
fn output(text: &str) -> Result<Output, String> {
    let path = PathBuf::from(text);
    if let (Some(format), false) = (PictureFormat::from_path(&path), path.is_dir()) {
        return Ok(Output::File(path, format));
    }
    let says_folder = text.ends_with(std::path::is_separator) || path.is_dir();
    match path.extension() {
        Some(_) if !says_folder => Err(
            "a picture's name ends in .png, .jpg or .webp; a folder's name ends in a slash"
                .to_owned(),
        ),
        _ => Ok(Output::Folder(path)),
    }
}

fn share(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "it is not a number".to_owned())?;
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err("it goes from 0 to 1".to_owned())
    }
}

fn guidance(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "it is not a number".to_owned())?;
    if (0.0..=100.0).contains(&value) {
        Ok(value)
    } else {
        Err("guidance goes from 0 to 100".to_owned())
    }
}

fn eta(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "it is not a number".to_owned())?;
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err("eta goes from 0 to 1".to_owned())
    }
}

fn score(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "it is not a number".to_owned())?;
    if (0.0..=10.0).contains(&value) {
        Ok(value)
    } else {
        Err("scores go from 0 to 10".to_owned())
    }
}

fn crop(text: &str) -> Result<[u32; 2], String> {
    let number = |text: &str| text.parse::<u16>().ok().map(u32::from);
    let two = text.split_once(',');
    two.and_then(|(left, top)| Some([number(left)?, number(top)?]))
        .ok_or_else(|| "two numbers of pixels: 16,0".to_owned())
}

/// A file named `none` can be given as `./none`.
fn upscale(text: &str) -> Result<Upscale, String> {
    match text {
        "" => Err("auto, none or a path is needed".to_owned()),
        "auto" => Ok(Upscale::Auto),
        "none" => Ok(Upscale::None),
        path => Ok(Upscale::With(PathBuf::from(path))),
    }
}

fn seed(text: &str) -> Result<Seed, String> {
    match text {
        "-1" => Ok(Seed::New),
        _ => text
            .parse()
            .map(Seed::Number)
            .map_err(|_| format!("a whole number from 0 to {}, or -1 for a new one", u64::MAX)),
    }
}

fn sampler() -> impl TypedValueParser<Value = NamedSampler> {
    let table = SAMPLERS.iter();
    ByName {
        names: table.map(|info| (info.name, info.tooltip)).collect(),
        read: names::sampler,
    }
}

fn schedule() -> impl TypedValueParser<Value = ScheduleId> {
    let table = SCHEDULES.iter();
    ByName {
        names: table.map(|info| (info.name, info.tooltip)).collect(),
        read: names::schedule,
    }
}

/// A parser that reads more names than it lists.
#[derive(Clone)]
struct ByName<T> {
    /// With their help.
    names: Vec<(&'static str, &'static str)>,
    read: fn(&str) -> Option<T>,
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for ByName<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<T, Wrong> {
        if let Some(known) = value.to_str().and_then(self.read) {
            return Ok(known);
        }
        // Its error lists the names and knows a similar one.
        let listed = PossibleValuesParser::new(self.names.iter().map(|(name, _)| *name));
        listed.parse_ref(command, argument, value)?;
        Err(Wrong::new(ErrorKind::InvalidValue))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = self.names.iter();
        Some(Box::new(
            names.map(|(name, help)| PossibleValue::new(*name).help(*help)),
        ))
    }
}

fn seed_mode() -> impl TypedValueParser<Value = SeedMode> {
    let table = SEED_MODES.iter();
    one_of(
        table
            .map(|info| (info.name, info.tooltip, info.id))
            .collect(),
    )
}

/// `START:END`.
fn interval(text: &str) -> Result<GuidanceInterval, String> {
    let bounds = text
        .split_once(':')
        .and_then(|(start, stop)| Some((start.parse().ok()?, stop.parse().ok()?)));
    match bounds {
        Some((start, stop)) if 0.0 <= start && start <= stop && stop <= 1.0 => {
            Ok(GuidanceInterval { start, stop })
        }
        _ => Err("two numbers from 0 to 1, the smaller one first: 0.2:0.8".to_owned()),
    }
}

/// `WIDTHxHEIGHT`.
fn size(text: &str) -> Result<[u32; 2], String> {
    let sides = text
        .split_once('x')
        .and_then(|(width, height)| Some([width.parse().ok()?, height.parse().ok()?]));
    sides.ok_or_else(|| "width and height in pixels: 512x512".to_owned())
}

fn emphasis() -> impl TypedValueParser<Value = Emphasis> {
    let table = EMPHASES.iter();
    one_of(
        table
            .map(|info| (info.name, info.tooltip, info.id))
            .collect(),
    )
}

fn device() -> impl TypedValueParser<Value = DeviceChoice> {
    one_of(vec![
        (
            "auto",
            "The graphics card where one works, else the processor",
            DeviceChoice::Auto,
        ),
        ("cpu", "The processor", DeviceChoice::Cpu),
        ("cuda", "The NVIDIA graphics card", DeviceChoice::Cuda),
    ])
}

fn dtype() -> impl TypedValueParser<Value = DtypeChoice> {
    dtypes("f32 on the processor, f16 on the graphics card")
}

fn written_dtype() -> impl TypedValueParser<Value = DtypeChoice> {
    dtypes("As each tensor is; f8 and the blocks of .gguf as f16")
}

fn dtypes(auto: &'static str) -> impl TypedValueParser<Value = DtypeChoice> {
    one_of(vec![
        ("auto", auto, DtypeChoice::Auto),
        ("f32", "32 bits", DtypeChoice::F32),
        ("f16", "16 bits", DtypeChoice::F16),
        (
            "bf16",
            "16 bits with the range of 32, fewer digits",
            DtypeChoice::Bf16,
        ),
    ])
}

/// A parser for the names of a table: name, help, value.
fn one_of<T: Copy + Send + Sync + 'static>(
    table: Vec<(&'static str, &'static str, T)>,
) -> impl TypedValueParser<Value = T> {
    let names = table
        .iter()
        .map(|(name, help, _)| PossibleValue::new(*name).help(*help));
    PossibleValuesParser::new(names.collect::<Vec<_>>()).try_map(move |name| {
        let found = table.iter().find(|(known, _, _)| *known == name);
        found.map(|(_, _, value)| *value).ok_or("unknown name")
    })
}

/// `PATH` or `PATH:WEIGHT`.
fn lora(text: &str) -> Result<LoraChoice, String> {
    let weighted = text.rsplit_once(':').and_then(|(path, weight)| {
        let weight: f64 = weight.parse().ok()?;
        Some((path, weight))
    });
    if weighted.is_none()
        && let Some((path, weight)) = text.rsplit_once(':')
        && !Path::new(text).exists()
        // `c:/style.safetensors` has no weight.
        && (Path::new(path).exists() || Path::new(path).extension().is_some())
    {
        return Err(format!(
            "{weight:?} behind the file is no number: 0.8, for example"
        ));
    }
    let (path, weight) = weighted.unwrap_or((text, 1.0));
    if path.is_empty() || !weight.is_finite() {
        return Err("a file, or a file and a number: style.safetensors:0.8".to_owned());
    }
    Ok(LoraChoice {
        path: path.into(),
        weight,
    })
}
