//! Pictures of other programs are read: each record is laid out as its program writes it, and comes
//! back as a request in Easel's words, the files that it names, and a sentence for each thing that
//! Easel lacks.
//!
//! The texts follow the sources that the readers in `src/output/programs` name.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking; scratch files need no atomic write"
)]

use easel::output;
use easel::request::SeedMode::{A1111, A1111Cpu, ComfyUi, Diffusers};
use easel::request::{
    AddOnHashes, Emphasis, GenerationRequest, NamedFile, PictureHints, Recipe, SamplerId,
    ScheduleId, SeedMode, Seeding, Upscale,
};
use proptest::prelude::*;
use serde_json::{Value, json};

#[path = "common/pictures.rs"]
mod pictures;
use pictures::{ASCII, UNDEFINED, jpeg, jpeg_exif, png_texts, tiff, tiff_with, unicode, webp_exif};

fn try_read(bytes: &[u8]) -> Option<Recipe> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture");
    std::fs::write(&path, bytes).unwrap();
    output::read_recipe(&path).unwrap()
}

fn read(bytes: &[u8]) -> Recipe {
    let recipe = try_read(bytes).expect("the record is understood");
    assert_text_says_it_all(&recipe);
    recipe
}

/// An enlarged picture carries its text only: what draws the picture again is in it.
fn assert_text_says_it_all(recipe: &Recipe) {
    let again = try_read(&png_texts(&[("parameters", &recipe.infotext)])).unwrap();
    // A1111 has no words for what SDXL is told beside the prompt. Hashes of LoRAs stand with the files
    // until they are in a text.
    let of_text = |request: &GenerationRequest| GenerationRequest {
        hints: PictureHints::default(),
        hashes: AddOnHashes::default(),
        ..request.clone()
    };
    assert_eq!(of_text(&again.request), of_text(&recipe.request));
    assert_eq!(again.program, recipe.program);
}

/// Everything that is asked for, and nothing else.
fn request(mode: SeedMode, prompt: &str, negative_prompt: &str) -> GenerationRequest {
    GenerationRequest {
        prompt: prompt.to_owned(),
        negative_prompt: negative_prompt.to_owned(),
        // Its noise and its weights go together.
        emphasis: match mode {
            ComfyUi => Emphasis::Comfyui,
            _ => Emphasis::Original,
        },
        steps: Some(20),
        guidance_scale: Some(7.0),
        width_px: Some(512),
        height_px: Some(768),
        seed: Some(1234),
        seeding: Seeding {
            mode,
            ..Seeding::default()
        },
        count: Some(1),
        sampler: Some(SamplerId::DpmPp2m),
        schedule: Some(ScheduleId::Karras),
        upscale: Upscale::Auto,
        ..GenerationRequest::default()
    }
}

#[track_caller]
fn assert_notes(recipe: &Recipe, words: &[&str]) {
    let notes = recipe.notes.join("\n");
    for word in words {
        assert!(notes.contains(word), "{word} is not in:\n{notes}");
    }
    assert_eq!(recipe.notes.len(), words.len(), "{notes}");
}

fn model(recipe: &Recipe) -> String {
    recipe
        .files
        .model
        .as_ref()
        .expect("a model is named")
        .to_string()
}

// --- ComfyUI ---

/// The graph that ComfyUI opens with, with a LoRA, a VAE, and clip skip.
fn comfyui() -> Value {
    json!({
        "3": {"class_type": "KSampler", "inputs": {
            "seed": 1234, "steps": 20, "cfg": 7.0, "sampler_name": "dpmpp_2m", "scheduler": "karras",
            "denoise": 1.0, "model": ["10", 0], "positive": ["6", 0], "negative": ["7", 0],
            "latent_image": ["5", 0]}},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "SD1\\dreamshaper_8.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox, 狐", "clip": ["11", 0]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["11", 0]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["12", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]},
              "_meta": {"title": "Save Image"}, "is_changed": [0.5]},
        "10": {"class_type": "LoraLoader", "inputs": {
            "lora_name": "ink.safetensors", "strength_model": 0.8, "strength_clip": 0.5,
            "model": ["4", 0], "clip": ["4", 1]}},
        "11": {"class_type": "CLIPSetLastLayer", "inputs": {"stop_at_clip_layer": -2, "clip": ["10", 1]}},
        "12": {"class_type": "VAELoader", "inputs": {"vae_name": "kl-f8-anime2.ckpt"}}
    })
}

fn read_graph(graph: &Value) -> Recipe {
    read(&png_texts(&[("prompt", &graph.to_string())]))
}

#[test]
fn comfyui_s_graph_is_followed_from_the_picture_to_its_seed_words_and_files() {
    let recipe = read_graph(&comfyui());
    assert_eq!(
        recipe.request,
        GenerationRequest {
            clip_skip: Some(2),
            ..request(ComfyUi, "a fox, 狐 <lora:ink:0.5:0.8>", "blurry")
        }
    );
    assert_eq!(recipe.program, "ComfyUI");
    assert_eq!(model(&recipe), "dreamshaper_8");
    assert_eq!(recipe.files.vae, Some(NamedFile::new("kl-f8-anime2", None)));
    assert_notes(&recipe, &[]);
    assert_eq!(
        recipe.infotext,
        "a fox, 狐 <lora:ink:0.5:0.8>\nNegative prompt: blurry\nSteps: 20, Sampler: DPM++ 2M, \
         Schedule type: Karras, CFG scale: 7, Seed: 1234, Size: 512x768, Model: dreamshaper_8, \
         VAE: kl-f8-anime2, Clip skip: 2, Emphasis: ComfyUI, RNG: CPU, Seed mode: comfyui, \
         Version: ComfyUI"
    );
}

#[test]
fn python_s_nan_does_not_hide_a_graph() {
    let text = comfyui().to_string().replace("[0.5]", "[NaN]");
    assert_eq!(
        read(&png_texts(&[("prompt", &text)])).request.seed,
        Some(1234)
    );
}

#[test]
fn comfyui_s_webp_holds_the_graph_in_the_camera_s_texts() {
    let prompt = format!("prompt:{}\0", comfyui());
    let workflow = "workflow:{\"nodes\": [], \"links\": []}\0";
    let block = tiff(
        &[
            (0x010f, ASCII, workflow.as_bytes()),
            (0x0110, ASCII, prompt.as_bytes()),
        ],
        &[],
        false,
    );
    for bytes in [webp_exif(&block), jpeg_exif(&block)] {
        assert_eq!(read(&bytes).request.seed, Some(1234));
    }
    // Extensions write both into the comment.
    let both = json!({"prompt": comfyui(), "workflow": {}}).to_string();
    let block = tiff_with(&unicode(&both), UNDEFINED, false);
    assert_eq!(read(&webp_exif(&block)).request.seed, Some(1234));
}

#[test]
fn primitives_and_reroutes_are_followed() {
    let mut graph = comfyui();
    graph["3"]["inputs"]["seed"] = json!(["20", 0]);
    graph["20"] = json!({"class_type": "PrimitiveInt", "inputs": {"value": 77}});
    graph["3"]["inputs"]["positive"] = json!(["21", 0]);
    graph["21"] = json!({"class_type": "Reroute", "inputs": {"": ["22", 0]}});
    graph["22"] = json!({"class_type": "Reroute", "inputs": {"": ["6", 0]}});
    graph["6"]["inputs"]["text"] = json!(["23", 0]);
    graph["23"] = json!({"class_type": "StringConcatenate", "inputs": {
        "string_a": "a fox", "string_b": ["24", 0], "delimiter": ", "}});
    graph["24"] = json!({"class_type": "PrimitiveStringMultiline", "inputs": {"value": "in snow"}});
    graph["5"]["inputs"]["width"] = json!(["25", 0]);
    graph["25"] = json!({"class_type": "INTConstant", "inputs": {"value": 640}});
    let recipe = read_graph(&graph);
    assert_eq!(recipe.request.seed, Some(77));
    assert_eq!(recipe.request.prompt, "a fox, in snow <lora:ink:0.5:0.8>");
    assert_eq!(recipe.request.width_px, Some(640));
    assert_notes(&recipe, &[]);
}

#[test]
fn the_nodes_for_samplers_one_by_one_are_read() {
    let mut graph = comfyui();
    graph["3"] = json!({"class_type": "SamplerCustomAdvanced", "inputs": {
        "noise": ["30", 0], "guider": ["31", 0], "sampler": ["32", 0], "sigmas": ["33", 0],
        "latent_image": ["5", 0]}});
    graph["30"] =
        json!({"class_type": "RandomNoise", "inputs": {"noise_seed": 18446744073709551615u64}});
    graph["31"] = json!({"class_type": "CFGGuider", "inputs": {
        "cfg": 5.5, "model": ["10", 0], "positive": ["6", 0], "negative": ["7", 0]}});
    graph["32"] = json!({"class_type": "SamplerDPMPP_2M_SDE", "inputs": {
        "solver_type": "heun", "eta": 0.7, "s_noise": 1.1, "noise_device": "cpu"}});
    graph["33"] = json!({"class_type": "KarrasScheduler", "inputs": {
        "steps": 12, "sigma_max": 14.6, "sigma_min": 0.03, "rho": 6.0}});
    let recipe = read_graph(&graph);
    let request = &recipe.request;
    assert_eq!(request.seed, Some(u64::MAX));
    assert_eq!(
        (request.steps, request.guidance_scale),
        (Some(12), Some(5.5))
    );
    assert_eq!(request.sampler, Some(SamplerId::DpmPp2mSdeHeun));
    assert_eq!(request.schedule, Some(ScheduleId::Karras));
    assert_eq!(
        (request.tuning.eta, request.tuning.s_noise),
        (Some(0.7), Some(1.1))
    );
    assert_eq!(
        (request.tuning.sigma_max, request.tuning.rho),
        (Some(14.6), Some(6.0))
    );
    assert_eq!(request.prompt, "a fox, 狐 <lora:ink:0.5:0.8>");
    assert_notes(&recipe, &[]);

    // `SamplerCustom` with the plain nodes.
    graph["3"] = json!({"class_type": "SamplerCustom", "inputs": {
        "add_noise": true, "noise_seed": 9, "cfg": 3.0, "model": ["10", 0], "positive": ["6", 0],
        "negative": ["7", 0], "sampler": ["32", 0], "sigmas": ["33", 0], "latent_image": ["5", 0]}});
    graph["32"] =
        json!({"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler_ancestral"}});
    graph["33"] = json!({"class_type": "BasicScheduler", "inputs": {
        "model": ["10", 0], "scheduler": "sgm_uniform", "steps": 6, "denoise": 1.0}});
    let request = read_graph(&graph).request;
    assert_eq!((request.seed, request.steps), (Some(9), Some(6)));
    assert_eq!(request.sampler, Some(SamplerId::EulerA));
    assert_eq!(request.schedule, Some(ScheduleId::SgmUniform));
}

#[test]
fn what_a_graph_does_and_easel_lacks_is_said() {
    let mut graph = comfyui();
    // A ControlNet before the words, FreeU before the model, hires fix and a face detailer behind.
    graph["3"]["inputs"]["positive"] = json!(["40", 0]);
    graph["3"]["inputs"]["negative"] = json!(["40", 1]);
    graph["40"] = json!({"class_type": "ControlNetApplyAdvanced", "inputs": {
        "positive": ["6", 0], "negative": ["7", 0], "control_net": ["41", 0], "image": ["42", 0],
        "strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}});
    graph["41"] =
        json!({"class_type": "ControlNetLoader", "inputs": {"control_net_name": "canny.pth"}});
    graph["42"] = json!({"class_type": "LoadImage", "inputs": {"image": "edges.png"}});
    graph["3"]["inputs"]["model"] = json!(["43", 0]);
    graph["43"] = json!({"class_type": "FreeU_V2", "inputs": {"model": ["10", 0], "b1": 1.3}});
    graph["3"]["inputs"]["sampler_name"] = json!("dpm_adaptive");
    graph["50"] = json!({"class_type": "LatentUpscale", "inputs": {
        "samples": ["3", 0], "width": 1024, "height": 1536}});
    graph["51"] = json!({"class_type": "KSampler", "inputs": {
        "seed": 5, "steps": 10, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.5,
        "model": ["10", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["50", 0]}});
    graph["8"]["inputs"]["samples"] = json!(["51", 0]);
    graph["52"] = json!({"class_type": "FaceDetailer", "inputs": {"image": ["8", 0], "seed": 1}});
    graph["53"] = json!({"class_type": "ImageUpscaleWithModel", "inputs": {
        "image": ["52", 0], "upscale_model": ["54", 0]}});
    graph["54"] =
        json!({"class_type": "UpscaleModelLoader", "inputs": {"model_name": "4x-UltraSharp.pth"}});
    graph["9"]["inputs"]["images"] = json!(["53", 0]);
    let recipe = read_graph(&graph);
    assert_eq!(
        recipe.request,
        GenerationRequest {
            clip_skip: Some(2),
            sampler: None,
            ..request(ComfyUi, "a fox, 狐 <lora:ink:0.5:0.8>", "blurry")
        }
    );
    assert_notes(
        &recipe,
        &[
            "the sampler dpm_adaptive",
            "the ControlNet canny.pth",
            "the node FreeU_V2",
            "Hires fix",
            "the node FaceDetailer",
            "the upscaler 4x-UltraSharp.pth",
        ],
    );
}

#[test]
fn a_graph_that_draws_over_a_picture_or_hands_on_to_a_refiner_says_so() {
    let mut graph = comfyui();
    graph["5"] =
        json!({"class_type": "VAEEncode", "inputs": {"pixels": ["42", 0], "vae": ["12", 0]}});
    graph["42"] = json!({"class_type": "LoadImage", "inputs": {"image": "photo.png"}});
    graph["3"]["inputs"]["denoise"] = json!(0.6);
    let recipe = read_graph(&graph);
    assert_eq!(recipe.request.width_px, None);
    assert_notes(&recipe, &["from another picture (denoising strength 0.6)"]);

    let mut graph = comfyui();
    let advanced = |seed: u64, start: u32, end: u32| {
        json!({"class_type": "KSamplerAdvanced", "inputs": {
            "add_noise": "enable", "noise_seed": seed, "steps": 25, "cfg": 8.0, "sampler_name": "euler",
            "scheduler": "normal", "start_at_step": start, "end_at_step": end,
            "return_with_leftover_noise": "enable", "model": ["4", 0], "positive": ["6", 0],
            "negative": ["7", 0], "latent_image": ["5", 0]}})
    };
    graph["3"] = advanced(8, 0, 20);
    graph["60"] = advanced(0, 20, 10_000);
    graph["60"]["inputs"]["latent_image"] = json!(["3", 0]);
    graph["60"]["inputs"]["model"] = json!(["61", 0]);
    graph["61"] = json!({"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "refiner.safetensors"}});
    graph["8"]["inputs"]["samples"] = json!(["60", 0]);
    let recipe = read_graph(&graph);
    assert_eq!(
        (recipe.request.seed, recipe.request.steps),
        (Some(8), Some(25))
    );
    assert_eq!(recipe.request.schedule, Some(ScheduleId::Normal));
    assert_eq!(model(&recipe), "dreamshaper_8");
    let refiner = NamedFile::new("refiner.safetensors", None);
    assert_eq!(recipe.files.refiner, Some((refiner, 0.8)));
    assert_notes(&recipe, &["from step 0 to 20 of 25"]);
}

#[test]
fn sdxl_s_two_texts_and_the_loaders_of_extensions_are_read() {
    let mut graph = comfyui();
    graph["6"] = json!({"class_type": "CLIPTextEncodeSDXL", "inputs": {
        "text_g": "a fox", "text_l": "a fox", "width": 1024, "height": 1024, "clip": ["4", 1]}});
    graph["7"] = json!({"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["6", 0]}});
    graph["10"] = json!({"class_type": "Power Lora Loader (rgthree)", "inputs": {
        "PowerLoraLoaderHeaderWidget": {"type": "PowerLoraLoaderHeaderWidget"},
        "lora_1": {"on": true, "lora": "style/ink.safetensors", "strength": 0.7},
        "lora_2": {"on": false, "lora": "off.safetensors", "strength": 1},
        "model": ["4", 0], "clip": ["4", 1]}});
    let recipe = read_graph(&graph);
    assert_eq!(recipe.request.prompt, "a fox <lora:ink:0.7>");
    assert_eq!(recipe.request.negative_prompt, "");
    assert_notes(&recipe, &["ConditioningZeroOut"]);

    let graph = json!({
        "1": {"class_type": "Efficient Loader", "inputs": {
            "ckpt_name": "mix.safetensors", "vae_name": "Baked VAE", "clip_skip": -2, "lora_name": "None",
            "lora_model_strength": 1.0, "lora_clip_strength": 1.0, "positive": "a fox",
            "negative": "blurry", "empty_latent_width": 512, "empty_latent_height": 768, "batch_size": 4}},
        "2": {"class_type": "KSampler (Efficient)", "inputs": {
            "seed": 1234, "steps": 20, "cfg": 7, "sampler_name": "dpmpp_2m", "scheduler": "karras",
            "denoise": 1, "model": ["1", 0], "positive": ["1", 1], "negative": ["1", 2],
            "latent_image": ["1", 3], "optional_vae": ["1", 4]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 5]}}
    });
    let recipe = read_graph(&graph);
    assert_eq!(
        recipe.request,
        GenerationRequest {
            clip_skip: Some(2),
            ..request(ComfyUi, "a fox", "blurry")
        }
    );
    assert_eq!(recipe.files.vae, None);
    assert_notes(&recipe, &["one of 4 pictures drawn together"]);
}

#[test]
fn two_conditionings_in_one_follow_each_other_and_their_node_is_named() {
    for class in ["ConditioningConcat", "ConditioningCombine"] {
        let (a, b) = match class {
            "ConditioningConcat" => ("conditioning_to", "conditioning_from"),
            _ => ("conditioning_1", "conditioning_2"),
        };
        let mut graph = comfyui();
        graph["3"]["inputs"]["positive"] = json!(["80", 0]);
        graph["80"] = json!({"class_type": class, "inputs": {a: ["6", 0], b: ["7", 0]}});
        let recipe = read_graph(&graph);
        let prompt = "a fox, 狐, blurry <lora:ink:0.5:0.8>";
        assert_eq!(recipe.request.prompt, prompt, "{class}");
        assert_notes(&recipe, &[class]);
    }
}

#[test]
fn a_workflow_alone_gives_the_settings_too() {
    let workflow = json!({
        "nodes": [
            {"id": 3, "type": "KSampler", "mode": 0,
             "inputs": [
                {"name": "model", "type": "MODEL", "link": 1}, {"name": "positive", "type": "CONDITIONING", "link": 2},
                {"name": "negative", "type": "CONDITIONING", "link": 3}, {"name": "latent_image", "type": "LATENT", "link": 4}],
             "outputs": [{"name": "LATENT", "type": "LATENT", "links": [7]}],
             "widgets_values": [1234, "randomize", 20, 7, "dpmpp_2m", "karras", 1]},
            {"id": 4, "type": "CheckpointLoaderSimple", "mode": 0, "outputs": [], "widgets_values": ["mix.ckpt"]},
            {"id": 5, "type": "EmptyLatentImage", "mode": 0, "widgets_values": [512, 768, 1]},
            {"id": 6, "type": "CLIPTextEncode", "mode": 0, "inputs": [{"name": "clip", "type": "CLIP", "link": 5}],
             "widgets_values": ["a fox"]},
            {"id": 7, "type": "CLIPTextEncode", "mode": 0, "inputs": [{"name": "clip", "type": "CLIP", "link": 6}],
             "widgets_values": ["blurry"]},
            // Switched off: it hands the model on.
            {"id": 10, "type": "LoraLoader", "mode": 4,
             "inputs": [{"name": "model", "type": "MODEL", "link": 8}, {"name": "clip", "type": "CLIP", "link": 9}],
             "outputs": [{"name": "MODEL", "type": "MODEL"}, {"name": "CLIP", "type": "CLIP"}],
             "widgets_values": ["off.safetensors", 1, 1]},
            {"id": 8, "type": "VAEDecode", "mode": 0, "inputs": [{"name": "samples", "type": "LATENT", "link": 7}]},
            {"id": 11, "type": "Note", "mode": 0, "widgets_values": ["KSampler"]}
        ],
        "links": [[1, 10, 0, 3, 0, "MODEL"], [2, 6, 0, 3, 1, "CONDITIONING"], [3, 7, 0, 3, 2, "CONDITIONING"],
                  [4, 5, 0, 3, 3, "LATENT"], [5, 10, 1, 6, 0, "CLIP"], [6, 10, 1, 7, 0, "CLIP"],
                  [7, 3, 0, 8, 0, "LATENT"], [8, 4, 0, 10, 0, "MODEL"], [9, 4, 1, 10, 1, "CLIP"]],
        "version": 0.4
    });
    let recipe = read(&png_texts(&[("workflow", &workflow.to_string())]));
    assert_eq!(recipe.request, request(ComfyUi, "a fox", "blurry"));
    assert_eq!(model(&recipe), "mix");
    assert_notes(&recipe, &[]);
}

/// A chain and a ring: neither the depth of a graph nor a way that comes back to itself is followed
/// without end.
#[test]
fn rings_and_endless_rows_of_nodes_end() {
    let mut graph = comfyui();
    graph["10"]["inputs"]["model"] = json!(["70", 0]);
    graph["70"] = json!({"class_type": "FreeU", "inputs": {"model": ["10", 0]}});
    graph["5"] = json!({"class_type": "LatentRotate", "inputs": {"samples": ["5", 0]}});
    graph["6"]["inputs"]["text"] = json!(["71", 0]);
    graph["71"] = json!({"class_type": "StringConcatenate", "inputs": {"string_a": ["71", 0], "string_b": ["71", 0]}});
    assert_eq!(read_graph(&graph).request.seed, Some(1234));
    for row in 0..5000 {
        let next = format!("{}", 1000 + row + 1);
        graph[format!("{}", 1000 + row)] =
            json!({"class_type": "Reroute", "inputs": {"": [next, 0]}});
    }
    graph["3"]["inputs"]["model"] = json!(["1000", 0]);
    assert_eq!(read_graph(&graph).request.seed, Some(1234));
}

// --- InvokeAI ---

#[test]
fn invokeai_s_metadata_is_read() {
    let record = json!({
        "app_version": "5.6.0", "generation_mode": "txt2img", "positive_prompt": "a fox",
        "negative_prompt": "blurry", "width": 512, "height": 768, "seed": 1234, "rand_device": "cpu",
        "cfg_scale": 7.0, "cfg_rescale_multiplier": 0.7, "steps": 20, "scheduler": "dpmpp_2m_k",
        "clip_skip": 1, "seamless_x": false, "seamless_y": true,
        "model": {"key": "k", "hash": "blake3:0011223344556677889900", "name": "Dreamshaper 8", "base": "sd-1", "type": "main"},
        "vae": {"key": "v", "hash": "blake3:ff", "name": "sd-vae-ft-mse", "base": "sd-1", "type": "vae"},
        "loras": [{"model": {"name": "ink", "type": "lora"}, "weight": 0.75}],
        "controlnets": [{"control_model": {"name": "canny"}, "control_weight": 1.0}],
        "ipAdapters": [], "strength": 0.5
    });
    let recipe = read(&png_texts(&[("invokeai_metadata", &record.to_string())]));
    assert_eq!(
        recipe.request,
        GenerationRequest {
            guidance_rescale: Some(0.7),
            clip_skip: Some(2),
            emphasis: Emphasis::Compel,
            ..request(Diffusers, "a fox <lora:ink:0.75>", "blurry")
        }
    );
    assert_eq!(model(&recipe), "Dreamshaper 8");
    assert_eq!(
        recipe.files.vae,
        Some(NamedFile::new("sd-vae-ft-mse", None))
    );
    assert_notes(&recipe, &["the ControlNet canny", "seamless_y"]);
}

#[test]
fn invokeai_s_older_records_are_read() {
    let record = json!({
        "model": "stable diffusion", "model_weights": "stable-diffusion-1.5",
        "model_hash": "cc6cb27103417325ff94f52b7a5d2dde45a7515b25c255d8e396c90014281516",
        "app_id": "invoke-ai/InvokeAI", "app_version": "2.3.5",
        "image": {
            "prompt": [{"prompt": "a fox [blurry]", "weight": 1.0}], "steps": 20, "cfg_scale": 7.0,
            "threshold": 0, "perlin": 0.1, "height": 768, "width": 512, "seed": 1234, "seamless": false,
            "hires_fix": true, "type": "txt2img", "postprocessing": null, "sampler": "k_dpmpp_2_k",
            "variations": []}
    });
    let dream = "\"a fox [blurry]\" -s 20 -S 1234 -W 512 -H 768 -C 7.0 -A k_euler_a";
    let recipe = read(&png_texts(&[
        ("Dream", dream),
        ("sd-metadata", &record.to_string()),
    ]));
    assert_eq!(
        recipe.request,
        GenerationRequest {
            sampler: None,
            schedule: None,
            ..request(Diffusers, "a fox", "blurry")
        }
    );
    assert!(model(&recipe).starts_with("stable-diffusion-1.5 (cc6cb27103417325"));
    assert_notes(&recipe, &["the sampler k_dpmpp_2_k", "Hires fix", "perlin"]);

    let euler_a = GenerationRequest {
        sampler: Some(SamplerId::EulerA),
        schedule: Some(ScheduleId::Model),
        ..request(Diffusers, "a fox", "blurry")
    };
    for dream in [
        dream,
        // Without the closing quote, and with values behind their letters.
        "\"a fox [blurry] -s 20 -S 1234 -W 512 -H 768 -C 7.0 -A k_euler_a",
        "\"a fox [blurry]\" -s20 -S1234 -W512 -H768 -C7.0 -Ak_euler_a",
    ] {
        let recipe = read(&png_texts(&[("Dream", dream)]));
        assert_eq!(recipe.request, euler_a, "{dream}");
        assert_notes(&recipe, &[]);
    }
    let recipe = read(&png_texts(&[(
        "Dream",
        &format!("{dream} --seamless -G 0.8 -v 0.1"),
    )]));
    assert_notes(&recipe, &["--seamless, -G, -v"]);
}

// --- SwarmUI, Fooocus ---

#[test]
fn swarmui_s_record_is_read_from_every_format() {
    let record = json!({
        "sui_image_params": {
            "prompt": "a fox <segment:face>", "negativeprompt": "blurry", "model": "SD1/dreamshaper_8",
            "seed": 1234, "steps": 20, "cfgscale": 7.0, "aspectratio": "Custom", "width": 512,
            "height": 768, "sampler": "dpmpp_2m", "scheduler": "karras", "clipstopatlayer": -2,
            "loras": ["style/ink"], "loraweights": ["0.8"], "controlnetmodel": "canny",
            "refinermodel": "refiner", "refinermethod": "StepSwap", "refinercontrolpercentage": 0.25,
            "freeuapplyto": "Both", "automaticvae": true, "swarm_version": "0.9.5.0"},
        "sui_extra_data": {"date": "2025-01-01", "generation_time": "1.00 (prep) and 2.00 (gen) seconds"},
        "sui_models": [{"name": "SD1/dreamshaper_8.safetensors", "param": "model", "hash": "0x00"}]
    });
    let pretty = serde_json::to_string_pretty(&record).unwrap();
    let block = tiff_with(&unicode(&pretty), UNDEFINED, false);
    for bytes in [
        png_texts(&[("parameters", &pretty)]),
        jpeg_exif(&block),
        webp_exif(&block),
    ] {
        let recipe = read(&bytes);
        assert_eq!(
            recipe.request,
            GenerationRequest {
                clip_skip: Some(2),
                ..request(ComfyUi, "a fox <segment:face> <lora:ink:0.8>", "blurry")
            }
        );
        assert_eq!(
            (model(&recipe).as_str(), recipe.program.as_str()),
            ("dreamshaper_8", "SwarmUI")
        );
        let refiner = NamedFile::new("refiner", None);
        assert_eq!(recipe.files.refiner, Some((refiner, 0.75)));
        assert_notes(
            &recipe,
            &["the ControlNet canny", "freeuapplyto", "<segment:face>"],
        );
    }
}

#[test]
fn fooocus_s_record_is_read_from_every_format_and_version() {
    let record = json!({
        "adm_guidance": "(1.5, 0.8, 0.3)", "base_model": "juggernautXL_v8", "base_model_hash": "aeb7e9e689",
        "clip_skip": 2, "full_negative_prompt": ["blurry", "ugly"],
        "full_prompt": ["cinematic still a fox . film grain", "a fox, intricate"],
        "guidance_scale": 7.0, "lora_combined_1": "ink : 0.1", "loras": [["ink", 0.1, "4852686128"]],
        "metadata_scheme": "fooocus", "negative_prompt": "blurry", "performance": "Speed",
        "prompt": "a fox", "prompt_expansion": "a fox, intricate", "refiner_model": "None",
        "refiner_switch": 0.5, "resolution": "(512, 768)", "sampler": "dpmpp_2m_sde_gpu",
        "scheduler": "karras", "seed": "1234", "sharpness": 2.0, "steps": 20,
        "styles": "['Fooocus V2']", "vae": "Default (model)", "version": "Fooocus v2.5.5"
    });
    let text = record.to_string();
    // Pillow's `Image.Exif` puts the comment into the first directory, as plain text.
    let comment = format!("{text}\0");
    let block = tiff(
        &[
            (0x0131, ASCII, b"Fooocus v2.5.5\0"),
            (0x927c, ASCII, b"fooocus\0"),
            (0x9286, ASCII, comment.as_bytes()),
        ],
        &[],
        true,
    );
    for bytes in [
        png_texts(&[("parameters", &text), ("fooocus_scheme", "fooocus")]),
        jpeg_exif(&block),
        webp_exif(&block),
        jpeg(&[(0xfe, text.clone().into_bytes())]),
    ] {
        let recipe = read(&bytes);
        assert_eq!(
            recipe.request,
            GenerationRequest {
                sampler: Some(SamplerId::DpmPp2mSde),
                clip_skip: Some(2),
                ..request(
                    ComfyUi,
                    "cinematic still a fox . film grain, a fox, intricate <lora:ink:0.1>",
                    "blurry, ugly"
                )
            }
        );
        assert_eq!(model(&recipe), "juggernautXL_v8 (aeb7e9e689)");
        assert_eq!(recipe.files.vae, None);
        assert_eq!(
            recipe.files.loras,
            [NamedFile::new("ink", Some("4852686128"))]
        );
        assert_notes(
            &recipe,
            &[
                "Fooocus's styles made of the words",
                "sharpness and guidance",
            ],
        );
    }
    // Before 2.2: the labels of the window.
    let old = json!({
        "Prompt": "a fox", "Negative Prompt": "blurry", "Styles": "[]", "Performance": "Speed",
        "Resolution": "(512, 768)", "Sharpness": 2.0, "Guidance Scale": 7.0, "ADM Guidance": "(1.5, 0.8, 0.3)",
        "Base Model": "sd_xl_base_1.0_0.9vae.safetensors", "Refiner Model": "refiner.safetensors",
        "Refiner Switch": 0.8, "Sampler": "dpmpp_2m", "Scheduler": "karras", "Seed": 1234, "Steps": 20,
        "LoRA 1": "ink.safetensors : 0.5", "Version": "v2.1.0"
    });
    let recipe = read(&png_texts(&[("parameters", &old.to_string())]));
    assert_eq!(
        recipe.request,
        request(ComfyUi, "a fox <lora:ink:0.5>", "blurry")
    );
    let refiner = NamedFile::new("refiner", None);
    assert_eq!(recipe.files.refiner, Some((refiner, 0.8)));
    assert_notes(&recipe, &["sharpness and guidance"]);
}

// --- Draw Things, NovelAI ---

#[test]
fn draw_things_s_record_is_read_out_of_the_xmp_packet() {
    let record = json!({
        "c": "a \"fox\" & friends", "uc": "blurry", "lora": [{"model": "ink_lora_f16.ckpt", "weight": 0.6}],
        "mask_blur": 1.5, "model": "sd_v1.5_f16.ckpt", "profile": {"duration": 10.0}, "sampler": "DPM++ 2M Karras",
        "scale": 7.0, "seed": 1234, "seed_mode": "Scale Alike", "shift": 1.0, "size": "512x768",
        "steps": 20, "strength": 1.0, "v2": {"clipSkip": 2, "hiresFix": true, "controls": [], "upscaler": null}
    });
    let escaped = record
        .to_string()
        .replace('&', "&amp;")
        .replace('"', "&quot;");
    let packet = format!(
        "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?><x:xmpmeta xmlns:x=\"adobe:ns:meta/\">\
         <rdf:RDF><rdf:Description rdf:about=\"\" xmp:CreatorTool=\"Draw Things\"><exif:UserComment><rdf:Alt>\
         <rdf:li xml:lang=\"x-default\">{escaped}</rdf:li></rdf:Alt></exif:UserComment></rdf:Description>\
         </rdf:RDF></x:xmpmeta>"
    );
    let app1 = [b"http://ns.adobe.com/xap/1.0/\0", packet.as_bytes()].concat();
    for bytes in [
        png_texts(&[("XML:com.adobe.xmp", &packet)]),
        jpeg(&[(0xe1, app1)]),
    ] {
        let recipe = read(&bytes);
        assert_eq!(
            recipe.request,
            GenerationRequest {
                clip_skip: Some(2),
                ..request(
                    Diffusers,
                    "a \"fox\" & friends <lora:ink_lora_f16:0.6>",
                    "blurry"
                )
            }
        );
        assert_eq!(
            (model(&recipe).as_str(), recipe.program.as_str()),
            ("sd_v1.5_f16", "Draw Things")
        );
        assert_notes(&recipe, &["a way of its own", "Hires fix"]);
    }
}

fn novelai_comment() -> String {
    json!({
        "prompt": "{a fox}, (sly)", "steps": 20, "height": 768, "width": 512, "scale": 7.0,
        "uncond_scale": 1.0, "cfg_rescale": 0.2, "seed": 1234, "n_samples": 1, "hide_debug_overlay": false,
        "noise_schedule": "karras", "sampler": "k_dpmpp_2m", "controlnet_strength": 1.0,
        "dynamic_thresholding": false, "sm": true, "sm_dyn": false, "uc": "[blurry]",
        "request_type": "PromptGenerateRequest", "signed_hash": "abc=="
    })
    .to_string()
}

fn assert_novelai(recipe: &Recipe) {
    assert_eq!(
        recipe.request,
        GenerationRequest {
            guidance_rescale: Some(0.2),
            ..request(Diffusers, "(a fox:1.05), \\(sly\\)", "(blurry:0.952)")
        }
    );
    assert_eq!(recipe.program, "NovelAI");
    assert_eq!(model(recipe), "Stable Diffusion XL C1E1DE52");
    assert_notes(recipe, &["a way of its own", "NovelAI's SMEA"]);
}

#[test]
fn novelai_s_record_is_read_from_its_texts() {
    assert_novelai(&read(&png_texts(&[
        ("Title", "AI generated image"),
        ("Description", "{a fox}, (sly)"),
        ("Software", "NovelAI"),
        ("Source", "Stable Diffusion XL C1E1DE52"),
        ("Generation time", "1.5"),
        ("Comment", &novelai_comment()),
    ])));
}

/// A picture whose transparency holds `text`, as `nai_meta_writer.py` puts it there.
fn hidden(text: &[u8], packed: bool) -> Vec<u8> {
    let content = if packed {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, text).unwrap();
        encoder.finish().unwrap()
    } else {
        text.to_vec()
    };
    let name: &[u8] = if packed {
        b"stealth_pngcomp"
    } else {
        b"stealth_pnginfo"
    };
    let length = (content.len() as u32 * 8).to_be_bytes();
    let bytes = [name, &length, &content].concat();
    let bit = |index: usize| {
        bytes
            .get(index / 8)
            .map_or(0, |byte| byte >> (7 - index % 8) & 1)
    };
    let (width, height) = (160, 90);
    let picture = image::RgbaImage::from_fn(width, height, |x, y| {
        let alpha = 254 | bit((x * height + y) as usize);
        image::Rgba([x as u8, y as u8, 7, alpha])
    });
    let mut file = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut file, image::ImageFormat::Png)
        .unwrap();
    file.into_inner()
}

#[test]
fn a_text_hidden_in_the_transparency_is_found() {
    let record = json!({
        "Description": "{a fox}, (sly)", "Software": "NovelAI", "Source": "Stable Diffusion XL C1E1DE52",
        "Comment": novelai_comment()
    });
    assert_novelai(&read(&hidden(record.to_string().as_bytes(), true)));
    let text = "a fox\nNegative prompt: blurry\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, \
                Seed: 1234, Size: 512x768, RNG: CPU";
    for packed in [true, false] {
        assert_eq!(
            read(&hidden(text.as_bytes(), packed)).request,
            request(A1111Cpu, "a fox", "blurry")
        );
    }
    // More than it says, or nothing: an ordinary picture.
    assert_eq!(try_read(&hidden(b"", false)), None);
    let bomb = vec![b' '; 8 << 20];
    assert_eq!(try_read(&hidden(&bomb, true)), None);
}

// --- stable-diffusion.cpp, Stability Matrix ---

#[test]
fn stable_diffusion_cpp_s_text_is_read_with_and_without_its_record() {
    let text = "a fox<lora:ink:0.8>\nNegative prompt: blurry\nSteps: 20, CFG scale: 7.000000, Guidance: 3.500000, \
        Eta: 0.000000, Seed: 1234, Size: 512x768, Model: sd-v1-5.safetensors, RNG: cuda, Sampler: dpm++2m karras, \
        VAE: kl-f8.safetensors, Clip skip: 2, Version: stable-diffusion.cpp";
    let recipe = read(&png_texts(&[("parameters", text)]));
    assert_eq!(
        recipe.request,
        GenerationRequest {
            clip_skip: Some(2),
            ..request(A1111, "a fox<lora:ink:0.8>", "blurry")
        }
    );
    assert_eq!(model(&recipe), "sd-v1-5");
    assert_eq!(recipe.program, "stable-diffusion.cpp");

    let record = json!({
        "schema": "sdcpp.image.params/v1", "mode": "img_gen",
        "generator": {"name": "stable-diffusion.cpp", "version": "master", "commit": "b290693"},
        "seed": 1234, "width": 512, "height": 768, "prompt": {"positive": "a fox", "negative": "blurry"},
        "sampling": {"steps": 20, "eta": 0.0, "shifted_timestep": 0, "flow_shift": 0.0, "extra_sample_args": "",
            "guidance": {"txt_cfg": 7.0, "img_cfg": 7.0, "distilled_guidance": 3.5,
                "slg": {"scale": 0.0, "layers": [], "start": 0.01, "end": 0.2}},
            "method": "dpm++2m", "scheduler": "karras", "custom_sigmas": []},
        "models": {"model": "sd-v1-5.safetensors", "vae": "kl-f8.safetensors"},
        "clip_skip": 2, "strength": 0.75, "control_strength": 0.9, "auto_resize_ref_image": true,
        "increase_ref_index": false, "rng": "cuda",
        "loras": [{"name": "ink.safetensors", "multiplier": 0.8, "is_high_noise": false}],
        "hires": {"enabled": true, "upscaler": "Latent", "scale": 2.0}
    });
    let text = format!(
        "a fox\nSteps: 20, CFG scale: 7.000000, Seed: 99, Size: 1x1, Version: stable-diffusion.cpp, SDCPP: {record}"
    );
    let recipe = read(&png_texts(&[("parameters", &text)]));
    assert_eq!(
        recipe.request,
        GenerationRequest {
            clip_skip: Some(2),
            ..request(A1111, "a fox <lora:ink:0.8>", "blurry")
        }
    );
    assert_notes(&recipe, &["Hires fix"]);
}

#[test]
fn stability_matrix_s_record_is_read_and_its_graph_says_more() {
    let hash = "b899d188a1ac7356bfb9399b2277d5b21712aa360f8f9514fba6fcce021baff7";
    let record = json!({
        "PositivePrompt": "a fox", "NegativePrompt": "blurry", "Steps": 20, "Sampler": "DPM++ 2M Karras",
        "CfgScale": 7, "Seed": 1234, "Height": 768, "Width": 512, "ModelHash": hash,
        "ModelName": "ExampleMix7", "FrameCount": 0, "OutputFps": 0
    })
    .to_string();
    let parameters = "a fox\nNegative prompt: blurry\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 5";
    let recipe = read(&png_texts(&[
        ("parameters", parameters),
        ("parameters-json", &record),
        ("smproj", "{}"),
    ]));
    assert_eq!(recipe.request, request(ComfyUi, "a fox", "blurry"));
    assert_eq!(model(&recipe), format!("ExampleMix7 ({hash})"));
    assert_notes(&recipe, &[]);
    let graph = comfyui().to_string();
    let recipe = read(&png_texts(&[
        ("prompt", &graph),
        ("parameters-json", &record),
    ]));
    assert_eq!(recipe.request.prompt, "a fox, 狐 <lora:ink:0.5:0.8>");
    assert_eq!(model(&recipe), format!("ExampleMix7 ({hash})"));
}

// --- A1111 and its kin ---

#[test]
fn civitai_s_own_keys_name_its_files() {
    let text = "a fox\nNegative prompt: blurry\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1234, \
        Size: 512x768, RNG: CPU, Created Date: 2024-03-12T10:00:00.0000000Z, \
        Civitai resources: [{\"type\":\"checkpoint\",\"modelVersionId\":290640,\"modelName\":\"Pony Diffusion V6 XL\",\
        \"modelVersionName\":\"V6, first\"},{\"type\":\"lora\",\"weight\":0.8,\"modelVersionId\":333590,\
        \"modelName\":\"Not Artists\",\"modelVersionName\":\"Anime 2\"}], Civitai metadata: {\"remixId\": 5}";
    let block = tiff_with(&unicode(text), UNDEFINED, false);
    for bytes in [png_texts(&[("parameters", text)]), jpeg_exif(&block)] {
        let recipe = read(&bytes);
        assert_eq!(recipe.request, request(A1111Cpu, "a fox", "blurry"));
        assert_eq!(model(&recipe), "Pony Diffusion V6 XL");
        assert_notes(
            &recipe,
            &["the LoRA Not Artists (Anime 2) at 0.8 of Civitai's catalogue"],
        );
    }
    // What Civitai draws with ComfyUI.
    let mut graph = comfyui();
    graph["extra"] = json!({"airs": ["urn:air:sd1:checkpoint:civitai:4384@128713"]});
    graph["extraMetadata"] = json!(
        json!({"prompt": "a vixen", "negativePrompt": "", "steps": 30, "cfgScale": 5, "sampler": "Euler a",
            "seed": 77, "resources": [{"modelVersionId": 128713, "strength": 1}]})
        .to_string()
    );
    let block = tiff_with(&unicode(&graph.to_string()), UNDEFINED, false);
    let recipe = read(&jpeg_exif(&block));
    assert_eq!(recipe.request.prompt, "a vixen <lora:ink:0.5:0.8>");
    assert_eq!(
        (recipe.request.seed, recipe.request.steps),
        (Some(77), Some(30))
    );
    assert_eq!(recipe.request.sampler, Some(SamplerId::EulerA));
    assert_notes(&recipe, &["the file 128713 of Civitai's catalogue"]);
}

#[test]
fn forge_s_keys_and_lora_hashes_are_read() {
    let text = "a fox <lora:ink:0.8>\nNegative prompt: blurry\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Karras, \
        CFG scale: 7, Seed: 1234, Size: 512x768, Model hash: 879db523c3, Model: dreamshaper_8, VAE hash: c6a580b13a, \
        VAE: vae-ft-mse-840000-ema-pruned.safetensors, RNG: CPU, NGMS: 0.1, \
        Lora hashes: \"ink: 4852686128ab\", Version: f2.0.1v1.10.1-previous-605, \
        Hashes: {\"model\": \"879db523c3\", \"lora:ink\": \"4852686128ab\"}";
    let recipe = read(&png_texts(&[("parameters", text)]));
    assert_eq!(
        recipe.request,
        GenerationRequest {
            hashes: AddOnHashes {
                loras: [("ink".to_owned(), "4852686128ab".to_owned())].into(),
                ..AddOnHashes::default()
            },
            ..request(A1111Cpu, "a fox <lora:ink:0.8>", "blurry")
        }
    );
    assert_eq!(recipe.program, "Forge");
    let files = &recipe.files;
    assert_eq!(
        files.model,
        Some(NamedFile::new("dreamshaper_8", Some("879db523c3")))
    );
    assert_eq!(
        files.vae,
        Some(NamedFile::new(
            "vae-ft-mse-840000-ema-pruned",
            Some("c6a580b13a")
        ))
    );
    assert_eq!(files.loras, [NamedFile::new("ink", Some("4852686128ab"))]);
    assert_notes(&recipe, &["NGMS"]);
}

#[test]
fn a_text_that_easel_wrote_keeps_its_schedule_without_easel_s_record() {
    let text = |schedule: &str| {
        format!(
            "x\nNegative prompt: \nSteps: 20, Sampler: DPM++ 2M{schedule}, Seed: 1, RNG: CPU, Version: Easel 0.1.0"
        )
    };
    let of = |text: &str| read(&png_texts(&[("parameters", text)])).request.schedule;
    assert_eq!(
        of(&text(", Schedule type: Uniform")),
        Some(ScheduleId::Model)
    );
    assert_eq!(of(&text("")), Some(ScheduleId::Karras));
    let a1111 = text(", Schedule type: Uniform").replace("Easel 0.1.0", "v1.10.1");
    assert_eq!(of(&a1111), Some(ScheduleId::Normal));
}

// --- hostile files ---

/// Records that look like a program's, with any values.
fn record() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z<>:\\[\\]{}()\"\\\\,0-9 é猫-]{0,20}".prop_map(Value::from),
        Just(json!("dpmpp_2m")),
        Just(json!(["3", 0])),
        Just(json!(["4", 1])),
    ];
    let key = prop::sample::select(KEYS);
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

const KEYS: &[&str] = &[
    "3",
    "4",
    "5",
    "class_type",
    "inputs",
    "seed",
    "noise_seed",
    "steps",
    "cfg",
    "model",
    "positive",
    "negative",
    "latent_image",
    "samples",
    "text",
    "text_g",
    "text_l",
    "clip",
    "string_a",
    "string_b",
    "conditioning_1",
    "conditioning_2",
    "ckpt_name",
    "lora_name",
    "lora_1",
    "width",
    "height",
    "images",
    "vae",
    "sigmas",
    "sampler",
    "guider",
    "scheduler",
    "nodes",
    "links",
    "type",
    "widgets_values",
    "extraMetadata",
    "sui_image_params",
    "prompt",
    "negativeprompt",
    "loras",
    "loraweights",
    "image",
    "base_model",
    "lora_combined_1",
    "full_prompt",
    "resolution",
    "c",
    "uc",
    "size",
    "scale",
    "v2",
    "lora",
    "Comment",
    "noise_schedule",
    "schema",
    "sampling",
    "guidance",
    "models",
    "PositivePrompt",
    "Sampler",
    "positive_prompt",
    "app_version",
    "resources",
    "prompt",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_record_makes_a_reader_panic(value in record(), key in prop::sample::select(vec![
        "parameters", "prompt", "workflow", "invokeai_metadata", "sd-metadata", "Dream", "Comment", "parameters-json",
    ])) {
        let _ = try_read(&png_texts(&[(key, &value.to_string())]));
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in any::<String>(), dream in "\"?[a-z \"\\[\\]]{0,10}( -[a-zA-Z]{1,2} ?[0-9.a-z]{0,5}){0,6}") {
        let comment = format!("<exif:UserComment>{text}</exif:UserComment>");
        let _ = try_read(&png_texts(&[("Dream", &dream), ("prompt", &text), ("XML:com.adobe.xmp", &comment)]));
        let _ = try_read(&jpeg(&[(0xfe, format!("{text} and more").into_bytes())]));
        let block = tiff_with(&unicode(&text), UNDEFINED, false);
        let _ = try_read(&webp_exif(&block));
    }

    #[test]
    fn no_exif_block_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), little in any::<bool>()) {
        let head: &[u8] = if little { b"II\x2a\0\x08\0\0\0" } else { b"MM\0\x2a\0\0\0\x08" };
        let _ = try_read(&webp_exif(&[head, &bytes].concat()));
    }
}

/// Thousands of fields that share the same megabyte would be gigabytes, were each read.
#[test]
fn an_exif_block_whose_fields_overlap_costs_no_more_than_its_size() {
    let fields = 60_000u16;
    let mut block = b"MM\0\x2a\0\0\0\x08".to_vec();
    block.extend(fields.to_be_bytes());
    for number in 0..fields {
        block.extend(number.to_be_bytes());
        block.extend(ASCII.to_be_bytes());
        block.extend((1u32 << 20).to_be_bytes());
        block.extend(16u32.to_be_bytes());
    }
    block.extend([0; 4]);
    block.resize(2 << 20, b'x');
    assert_eq!(try_read(&webp_exif(&block)), None);
}

#[test]
fn a_graph_too_large_to_read_is_said_and_hides_no_other_text() {
    let long = format!("{{\"1\": \"{}\"}}", "x".repeat(3 << 20));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture");
    std::fs::write(&path, png_texts(&[("prompt", &long)])).unwrap();
    let error = output::read_recipe(&path).unwrap_err().to_string();
    assert!(error.contains("longer than 2 MB"), "{error}");
    let text = "x\nSteps: 2, Seed: 3, CFG scale: 4";
    assert_eq!(
        read(&png_texts(&[("prompt", &long), ("parameters", text)]))
            .request
            .seed,
        Some(3)
    );
}
