//! Pictures carry their settings: written as other programs read them, read back field for field,
//! and never at the price of a picture that was there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "scratch files need no atomic write"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use easel::error::{Error, Remedy};
use easel::output;
use easel::request::{
    AddOnHashes, Arithmetic, EMPHASES, Emphasis, GenerationRequest, GuidanceInterval, LoraChoice,
    PictureFormat, PictureHints, PictureSettings, Pixels, RefinerChoice, SAMPLERS, SCHEDULES,
    SEED_MODES, SamplerId, SaveTarget, ScheduleId, SeedMode, Seeding, Tuning, Upscale,
};
use proptest::prelude::*;

#[path = "common/pictures.rs"]
mod pictures;
use pictures::{png_with, tiff_with};

fn settings(prompt: &str, negative_prompt: &str) -> PictureSettings {
    PictureSettings {
        prompt: prompt.to_owned(),
        negative_prompt: negative_prompt.to_owned(),
        template: None,
        negative_template: None,
        emphasis: Emphasis::default(),
        model_name: "Starter".to_owned(),
        model_path: None,
        model_hash: Some("0123456789".to_owned()),
        steps: 20,
        guidance_scale: 7.5,
        guidance_rescale: 0.0,
        guidance_interval: None,
        clip_skip: 1,
        unet_path: None,
        vae_path: None,
        loras: Vec::new(),
        embeddings: Vec::new(),
        hashes: AddOnHashes::default(),
        refiner: None,
        refiner_hash: None,
        hints: PictureHints::default(),
        seed: 1234,
        seeding: Seeding::default(),
        sampler: SamplerId::DpmPp2m,
        schedule: ScheduleId::Karras,
        tuning: Tuning::default(),
        width_px: 64,
        height_px: 64,
        upscaler: Some("realesr-animevideov3-x4".to_owned()),
        output_width_px: 256,
        output_height_px: 256,
        device: "cpu".to_owned(),
        dtype: "f32".to_owned(),
        arithmetic: Some(Arithmetic::Fast),
        version: "0.1.0".to_owned(),
        cancelled_after: None,
        foreign: None,
    }
}

/// A picture whose pixels all differ a little, so that a mix-up of rows or channels shows.
fn pixels(width_px: u32, height_px: u32) -> Pixels {
    let rgb = (0..height_px)
        .flat_map(|y| {
            (0..width_px).flat_map(move |x| [(3 * x) as u8, (5 * y) as u8, (x + y) as u8])
        })
        .collect();
    Pixels {
        width_px,
        height_px,
        rgb,
    }
}

fn save_to(folder: &Path, settings: &PictureSettings, format: PictureFormat) -> PathBuf {
    let target = SaveTarget::Folder(folder.to_path_buf());
    output::save_picture(&pixels(8, 8), settings, &target, format, 0).unwrap()
}

/// Every awkward text of `metadata.md`, as prompt, negative prompt and model name.
fn awkward_settings() -> Vec<PictureSettings> {
    let prompts = [
        ("a penguin, 3d style", "blurry"),
        ("caf\u{e9} \u{fc}ber na\u{ef}ve", "\u{df}"),
        ("一只企鹅，三维风格", "模糊"),
        (
            "\u{1f427} in the \u{2744}\u{fe0f}",
            "\u{1f469}\u{200d}\u{1f680}",
        ),
        ("", "blurry"),
        ("a penguin", ""),
        ("", ""),
        ("{\"prompt\": \"a penguin\"}", "{}"),
        ("{a|b} penguin", ""),
        ("ends in a newline\n", "also\n"),
        ("two\nlines\r\nand three", "\n\n"),
        (
            "Steps: 20, Sampler: Euler, CFG scale: 3",
            "Steps: 1, a: b, cc: d",
        ),
        ("x\nNegative prompt: not this", "Negative prompt: twice"),
        (
            "tabs\t and \u{7f} \u{85} \u{fffe} </easel:settings> ]]> &amp;",
            "<b>\"'\\",
        ),
    ];
    let mut all: Vec<_> = prompts
        .iter()
        .map(|(prompt, negative)| settings(prompt, negative))
        .collect();
    for name in [
        "a, b",
        "a: b",
        "a \"b\" c",
        "a (b)",
        "\"quoted\"",
        "{json}",
        " spaces ",
        "模型",
    ] {
        all.push(PictureSettings {
            model_name: name.to_owned(),
            model_hash: None,
            ..settings("a penguin", "blurry")
        });
    }
    all.push(PictureSettings {
        tuning: Tuning {
            eta: Some(0.1 + 0.2),
            s_churn: Some(40.0),
            s_noise: Some(1.003),
            rho: Some(f64::MIN_POSITIVE),
            sigma_min: None,
            sigma_max: Some(1.0 / 3.0),
        },
        ..settings("a penguin", "blurry")
    });
    all.push(settings(&"long prompt ".repeat(3334)[..40_000], "blurry"));
    all.push(settings(
        &"\u{4f01}".repeat(40_000),
        &"\u{1f427}".repeat(100),
    ));
    all
}

#[test]
fn every_awkward_text_comes_back_field_for_field_from_every_format() {
    let folder = tempfile::tempdir().unwrap();
    for settings in awkward_settings() {
        for format in PictureFormat::ALL {
            let path = save_to(folder.path(), &settings, format);
            let recipe = output::read_recipe(&path).unwrap().unwrap();
            assert_eq!(recipe.settings.as_ref(), Some(&settings), "{format:?}");
            // The request that the window and the command line draw it again with.
            assert_eq!(recipe.request, settings.to_request());
            assert_eq!(recipe.infotext, output::infotext(&settings), "{format:?}");
            assert_eq!(recipe.notes, Vec::<String>::new());
        }
    }
}

#[test]
fn the_pixels_come_back_too() {
    let folder = tempfile::tempdir().unwrap();
    let drawn = pixels(33, 17);
    for format in PictureFormat::ALL {
        let target = SaveTarget::Folder(folder.path().to_path_buf());
        let path = output::save_picture(&drawn, &settings("x", ""), &target, format, 0).unwrap();
        let opened = output::open_picture(&path).unwrap();
        assert_eq!((opened.width_px, opened.height_px), (33, 17));
        if format != PictureFormat::Jpeg {
            assert_eq!(opened, drawn, "{format:?}");
        }
    }
}

#[test]
fn the_infotext_is_a1111_s_word_for_word() {
    assert_eq!(
        output::infotext(&settings("a penguin, 3d style", "blurry")),
        "a penguin, 3d style\nNegative prompt: blurry\n\
         Steps: 20, Sampler: DPM++ 2M Karras, Schedule type: Karras, CFG scale: 7.5, Seed: 1234, \
         Size: 64x64, Model hash: 0123456789, Model: Starter, Postprocess upscale by: 4, \
         Postprocess upscaler: realesr-animevideov3-x4, RNG: CPU, Version: Easel 0.1.0, \
         Hashes: {\"model\":\"0123456789\"}"
    );
    let odd = PictureSettings {
        model_name: "a, \"b\": c".to_owned(),
        model_hash: None,
        upscaler: None,
        sampler: SamplerId::Euler,
        schedule: ScheduleId::Model,
        guidance_scale: 7.0,
        ..settings("", "")
    };
    assert_eq!(
        output::infotext(&odd),
        "\nNegative prompt: \nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1234, Size: 64x64, \
         RNG: CPU, Version: Easel 0.1.0, Model: \"a, \\\"b\\\": c\""
    );
    let tuned = PictureSettings {
        sampler: SamplerId::Ddim,
        tuning: Tuning {
            eta: Some(0.5),
            sigma_max: Some(0.1 + 0.2),
            ..Tuning::default()
        },
        ..settings("x", "")
    };
    let text = output::infotext(&tuned);
    assert!(
        text.contains("Eta DDIM: 0.5, Schedule max sigma: 0.30000000000000004, RNG: CPU"),
        "{text}"
    );
    let more = PictureSettings {
        guidance_rescale: 0.7,
        clip_skip: 2,
        unet_path: Some(PathBuf::from("models/unet/a, b.gguf")),
        vae_path: Some(PathBuf::from("models/VAE/kl-f8, ema.safetensors")),
        ..odd
    };
    assert_eq!(
        output::infotext(&more),
        "\nNegative prompt: \nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1234, Size: 64x64, \
         Clip skip: 2, CFG Rescale: 0.7, RNG: CPU, Version: Easel 0.1.0, \
         Model: \"a, \\\"b\\\": c\", VAE: \"kl-f8, ema.safetensors\""
    );
    // A1111 takes `DPM++ 2M` alone for Karras, which the model's own schedule is not.
    let own = PictureSettings {
        schedule: ScheduleId::Model,
        ..settings("x", "")
    };
    assert!(
        output::infotext(&own).contains("Sampler: DPM++ 2M, Schedule type: Uniform, CFG scale")
    );
}

/// The name and bytes of each chunk of a PNG, in order.
fn png_chunks(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut chunks = Vec::new();
    let mut rest = &bytes[8..];
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let name = String::from_utf8(rest[4..8].to_vec()).unwrap();
        chunks.push((name, rest[8..8 + length].to_vec()));
        rest = &rest[12 + length..];
    }
    chunks
}

#[test]
fn png_keys_are_the_ones_readers_expect_and_stand_before_the_picture() {
    let folder = tempfile::tempdir().unwrap();
    for (prompt, kind) in [("a penguin", "tEXt"), ("一只企鹅", "iTXt")] {
        let path = save_to(folder.path(), &settings(prompt, ""), PictureFormat::Png);
        let chunks = png_chunks(&std::fs::read(path).unwrap());
        let names: Vec<&str> = chunks.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["IHDR", kind, kind, "iTXt", "IDAT", "IEND"]);
        let keys: Vec<&[u8]> = chunks[1..4]
            .iter()
            .map(|(_, text)| text.split(|byte| *byte == 0).next().unwrap())
            .collect();
        assert_eq!(keys, [&b"parameters"[..], b"easel", b"XML:com.adobe.xmp"]);
        let xmp = String::from_utf8_lossy(&chunks[3].1).into_owned();
        assert!(xmp.contains("<Iptc4xmpExt:DigitalSourceType>http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia<"));
        if kind == "iTXt" {
            let text = output::infotext(&settings(prompt, ""));
            let chunk = [b"parameters\0\0\0\0\0", text.as_bytes()].concat();
            assert_eq!(chunks[1].1, chunk);
        }
    }
}

#[test]
fn an_enlarged_photo_is_not_called_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let photo = PictureSettings {
        steps: 0,
        ..settings("", "")
    };
    for (settings, source) in [
        (settings("", ""), "/trainedAlgorithmicMedia<"),
        (photo, "/compositeWithTrainedAlgorithmicMedia<"),
    ] {
        for format in PictureFormat::ALL {
            let bytes = std::fs::read(save_to(folder.path(), &settings, format)).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            assert!(text.contains(source), "{format:?} lacks {source}");
        }
    }
}

#[test]
fn jpeg_and_webp_hold_what_piexif_would_write() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings("一只 penguin \u{1f427}", "");
    let mut comment = b"UNICODE\0".to_vec();
    comment.extend(
        output::infotext(&settings)
            .encode_utf16()
            .flat_map(u16::to_be_bytes),
    );
    let holds = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|at| at == part);

    let jpeg = std::fs::read(save_to(folder.path(), &settings, PictureFormat::Jpeg)).unwrap();
    assert!(holds(&jpeg, &comment));
    assert!(holds(&jpeg, b"Exif\0\0MM\0\x2a"));
    assert_eq!(&jpeg[..4], [0xff, 0xd8, 0xff, 0xe0], "JFIF comes first");
    assert!(!holds(&jpeg, &[0xff, 0xfe]), "no JPEG comment");

    let webp = std::fs::read(save_to(folder.path(), &settings, PictureFormat::Webp)).unwrap();
    assert!(holds(&webp, &comment));
    assert!(holds(&webp, b"MM\0\x2a") && !holds(&webp, b"Exif\0\0"));
    assert_eq!(
        webp.len() as u32 - 8,
        u32::from_le_bytes(webp[4..8].try_into().unwrap())
    );
    assert_eq!(&webp[12..16], b"VP8X");
    assert_eq!(webp[20], 0x0c, "EXIF and XMP, no alpha");
}

#[test]
fn a_prompt_too_long_for_a_jpeg_lies_in_a_text_file_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let long = settings(&"p".repeat(40_000), "");
    let path = save_to(folder.path(), &long, PictureFormat::Jpeg);
    let beside = std::fs::read_to_string(path.with_extension("txt")).unwrap();
    assert_eq!(beside, output::infotext(&long));
    assert!(output::long_prompt_note(&long, PictureFormat::Jpeg).is_some());
    assert!(output::long_prompt_note(&long, PictureFormat::Webp).is_none());

    // The longest that fits has no file beside, one unit more has.
    let room = (65_533 - 6 - 52) / 2 - output::infotext(&settings("", "")).len();
    for (length, beside) in [(room, false), (room + 1, true)] {
        let settings = settings(&"p".repeat(length), "");
        let path = save_to(folder.path(), &settings, PictureFormat::Jpeg);
        assert_eq!(path.with_extension("txt").exists(), beside, "{length}");
        assert_eq!(
            output::long_prompt_note(&settings, PictureFormat::Jpeg).is_some(),
            beside
        );
        let exif = output::read_recipe(&path).unwrap().unwrap();
        assert_eq!(exif.settings.as_ref(), Some(&settings));
    }
}

fn read_bytes(bytes: &[u8]) -> Result<Option<easel::request::Recipe>, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture");
    std::fs::write(&path, bytes).unwrap();
    output::read_recipe(&path)
}

fn zlib(text: &[u8]) -> Vec<u8> {
    fdeflate::compress_to_vec(text)
}

const A1111: &str = "a caf\u{e9}\nNegative prompt: blurry\nSteps: 25, Sampler: DPM++ 2M Karras, \
    CFG scale: 6.5, Seed: 99, Size: 512x768, Model hash: 6ce0161689, Model: v1-5-pruned, \
    Clip skip: 2, Version: v1.10.1";

fn a1111_request() -> GenerationRequest {
    GenerationRequest {
        prompt: "a caf\u{e9}".to_owned(),
        negative_prompt: "blurry".to_owned(),
        steps: Some(25),
        guidance_scale: Some(6.5),
        width_px: Some(512),
        height_px: Some(768),
        seed: Some(99),
        // It says nothing of its noise, which then is a card's.
        seeding: Seeding {
            mode: SeedMode::A1111,
            ..Seeding::default()
        },
        count: Some(1),
        sampler: Some(SamplerId::DpmPp2m),
        schedule: Some(ScheduleId::Karras),
        clip_skip: Some(2),
        upscale: Upscale::Auto,
        ..GenerationRequest::default()
    }
}

#[test]
fn a1111_s_pngs_are_read_whatever_the_chunk_and_wherever_it_stands() {
    let latin1: Vec<u8> = A1111.chars().map(|c| c as u8).collect();
    let text = |head: &[u8], text: &[u8]| [head, text].concat();
    for (kind, data) in [
        (b"tEXt", text(b"parameters\0", &latin1)),
        (b"zTXt", text(b"parameters\0\0", &zlib(&latin1))),
        (b"iTXt", text(b"parameters\0\0\0\0\0", A1111.as_bytes())),
        (
            b"iTXt",
            text(b"parameters\0\0\0en\0key\0", A1111.as_bytes()),
        ),
        (
            b"iTXt",
            text(b"parameters\0\x01\0\0\0", &zlib(A1111.as_bytes())),
        ),
    ] {
        for before in [true, false] {
            let bytes = png_with(&[(kind, data.clone(), before)]);
            let recipe = read_bytes(&bytes).unwrap().unwrap();
            assert_eq!(recipe.request, a1111_request());
            assert_eq!(recipe.settings, None);
            assert_eq!(recipe.infotext, A1111);
            let model = recipe.files.model.unwrap().to_string();
            assert_eq!(model, "v1-5-pruned (6ce0161689)");
            assert_eq!(recipe.program, "AUTOMATIC1111");
        }
    }
}

#[test]
fn a1111_s_jpegs_and_webps_are_read_in_either_byte_order() {
    // A whole file of ours, its XMP taken away and its EXIF replaced by what others write.
    let le = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let be = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_be_bytes).collect() };
    const UNDEFINED: u16 = 7;
    const BYTE: u16 = 1; // as Pillow writes it
    for (little, kind, comment) in [
        (false, UNDEFINED, [&b"UNICODE\0"[..], &be(A1111)].concat()),
        (false, BYTE, [&b"UNICODE\0"[..], &le(A1111)].concat()),
        (true, BYTE, [&b"UNICODE\0"[..], &be(A1111)].concat()),
        (true, UNDEFINED, [&b"UNICODE\0"[..], &le(A1111)].concat()),
        (
            true,
            UNDEFINED,
            [&b"ASCII\0\0\0"[..], A1111.as_bytes()].concat(),
        ),
        (true, UNDEFINED, [&[0; 8][..], A1111.as_bytes()].concat()),
    ] {
        let tiff = tiff_with(&comment, kind, little);
        let app1 = [b"Exif\0\0", &tiff[..]].concat();
        let length = (app1.len() as u16 + 2).to_be_bytes();
        let jpeg = [&[0xff, 0xd8, 0xff, 0xe1], &length[..], &app1, &[0xff, 0xd9]].concat();
        let exif_bytes = (tiff.len() as u32).to_le_bytes();
        let chunk = [&b"EXIF"[..], &exif_bytes, &tiff].concat();
        let riff = ((chunk.len() + 4) as u32).to_le_bytes();
        let webp = [&b"RIFF"[..], &riff, b"WEBP", &chunk].concat();
        for bytes in [jpeg, webp] {
            let recipe = read_bytes(&bytes).unwrap().unwrap();
            assert_eq!(recipe.request, a1111_request());
        }
    }
}

#[test]
fn other_programs_texts_are_not_taken_for_a1111_s() {
    for (key, text) in [
        ("parameters", "{\"prompt\": \"x\", \"of\": \"nobody\"}"),
        ("parameters", "  "),
        (
            "Comment",
            "a house\nSteps: 20, Sampler: Euler, CFG scale: 7",
        ),
        ("prompt", "{}"),
    ] {
        let data = [key.as_bytes(), b"\0", text.as_bytes()].concat();
        let bytes = png_with(&[(b"tEXt", data, true)]);
        assert_eq!(read_bytes(&bytes).unwrap(), None, "{key}: {text}");
    }
    // A camera's comment.
    let tiff = tiff_with(b"ASCII\0\0\0My holiday, 2024", 7, true);
    let app1 = [b"Exif\0\0", &tiff[..]].concat();
    let length = (app1.len() as u16 + 2).to_be_bytes();
    let jpeg = [&[0xff, 0xd8, 0xff, 0xe1], &length[..], &app1, &[0xff, 0xd9]].concat();
    assert_eq!(read_bytes(&jpeg).unwrap(), None);
    // A prompt alone, as A1111 reads it, also one that looks like the start of JSON.
    let bytes = png_with(&[(b"tEXt", b"parameters\0{a|b} house".to_vec(), true)]);
    let recipe = read_bytes(&bytes).unwrap().unwrap();
    assert_eq!(recipe.request.prompt, "{a|b} house");
}

#[test]
fn a_damaged_record_of_easel_leaves_the_text_and_says_so() {
    let parameters = [
        &b"parameters\0"[..],
        A1111.replace('\u{e9}', "e").as_bytes(),
    ]
    .concat();
    let bytes = png_with(&[
        (b"tEXt", b"easel\0{\"prompt\":".to_vec(), true),
        (b"tEXt", parameters, true),
    ]);
    let recipe = read_bytes(&bytes).unwrap().unwrap();
    assert_eq!(recipe.settings, None);
    assert_eq!(recipe.request.seed, Some(99));
    assert!(
        recipe.notes[0].contains("Easel's own record"),
        "{:?}",
        recipe.notes
    );
}

#[test]
fn texts_over_two_megabytes_and_broken_files_are_clear_errors() {
    let long = vec![b'x'; (2 << 20) + 100];
    let bomb = zlib(&vec![0; 64 << 20]);
    assert!(bomb.len() < 2 << 20);
    for (kind, data) in [
        (b"tEXt", [&b"parameters\0"[..], &long].concat()),
        (b"zTXt", [&b"parameters\0\0"[..], &bomb].concat()),
        (b"iTXt", [&b"easel\0\x01\0\0\0"[..], &bomb].concat()),
    ] {
        let error = read_bytes(&png_with(&[(kind, data, true)])).unwrap_err();
        assert!(error.to_string().contains("longer than 2 MB"), "{error}");
    }
    // A huge text under a key that Easel does not read costs nothing and hides nothing.
    let workflow = [&b"workflow\0"[..], &long].concat();
    let parameters = [&b"parameters\0"[..], b"x\nSteps: 2, Seed: 3, CFG scale: 4"].concat();
    let bytes = png_with(&[(b"tEXt", workflow, true), (b"tEXt", parameters, true)]);
    assert_eq!(read_bytes(&bytes).unwrap().unwrap().request.seed, Some(3));

    for bytes in [&b""[..], b"short", b"GIF89a and more bytes", &[0; 100]] {
        let error = read_bytes(bytes).unwrap_err();
        assert!(matches!(error, Error::Picture { .. }), "{error}");
    }
    let nowhere = output::read_recipe(Path::new("no/such/picture.png")).unwrap_err();
    assert!(
        nowhere
            .to_string()
            .starts_with("Reading no/such/picture.png"),
        "{nowhere}"
    );
}

#[test]
fn a_picture_cut_off_anywhere_is_an_error_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    for format in PictureFormat::ALL {
        let path = save_to(folder.path(), &settings("a penguin", "blurry"), format);
        let bytes = std::fs::read(&path).unwrap();
        let cut_path = folder.path().join("cut");
        // PNG's last four bytes are a checksum of nothing.
        for length in 0..bytes.len() - 4 {
            std::fs::write(&cut_path, &bytes[..length]).unwrap();
            // A JPEG's settings stand whole before its picture.
            let read = output::read_recipe(&cut_path);
            let jpeg_head_is_whole = format == PictureFormat::Jpeg && read.is_ok();
            assert!(read.is_err() || jpeg_head_is_whole, "{format:?} {length}");
        }
        std::fs::write(&cut_path, &bytes[..bytes.len() / 2]).unwrap();
        match output::open_picture(&cut_path) {
            // What is missing of a JPEG is gray; a WebP's settings stand behind its picture.
            Ok(_) => assert_ne!(format, PictureFormat::Png),
            Err(error) => assert!(matches!(error, Error::Picture { .. }), "{error}"),
        }
    }
}

// --- saving ---

#[test]
fn library_pictures_lie_in_a_folder_a_day_numbered_on_from_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let target = SaveTarget::Library(folder.path().join("Easel"));
    let save = |format| {
        output::save_picture(&pixels(4, 4), &settings("x", ""), &target, format, 0).unwrap()
    };
    let first = save(PictureFormat::Png);
    let day = first.parent().unwrap();
    let date = day.file_name().unwrap().to_str().unwrap();
    assert!(
        date.parse::<jiff::civil::Date>().is_ok() && date.len() == 10,
        "{date}"
    );
    assert_eq!(first.file_name().unwrap(), "00001-1234.png");
    assert_eq!(
        save(PictureFormat::Webp).file_name().unwrap(),
        "00002-1234.webp"
    );
    std::fs::write(day.join("00041-7.jpg"), "").unwrap();
    assert_eq!(
        save(PictureFormat::Jpeg).file_name().unwrap(),
        "00042-1234.jpg"
    );
}

#[test]
fn several_programs_saving_at_once_never_replace_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let target = SaveTarget::Folder(folder.path().to_path_buf());
    let mut paths: Vec<PathBuf> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let target = &target;
                scope.spawn(move || {
                    let settings = settings(&format!("writer {writer}"), "");
                    let save = |index| {
                        let path = output::save_picture(
                            &pixels(4, 4),
                            &settings,
                            target,
                            PictureFormat::Png,
                            index,
                        );
                        (path.unwrap(), settings.prompt.clone())
                    };
                    (0..10).map(save).collect::<Vec<_>>()
                })
            })
            .collect();
        let saved = writers.into_iter().flat_map(|w| w.join().unwrap());
        saved
            .map(|(path, prompt)| {
                let recipe = output::read_recipe(&path).unwrap().unwrap();
                assert_eq!(recipe.request.prompt, prompt, "{}", path.display());
                path
            })
            .collect()
    });
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 80);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        80,
        "no temporary file is left"
    );
}

#[test]
fn a_place_that_cannot_be_written_is_a_message_with_the_path_and_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("a file");
    std::fs::write(&blocked, "in the way").unwrap();
    for target in [
        SaveTarget::Library(blocked.clone()),
        SaveTarget::Folder(blocked.join("deeper")),
        SaveTarget::File(blocked.join("cat.png")),
    ] {
        let error = output::save_picture(
            &pixels(4, 4),
            &settings("x", ""),
            &target,
            PictureFormat::Png,
            0,
        )
        .unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("Saving"), "{message}");
        assert!(message.contains("a file"), "{message}");
        assert_eq!(error.remedy(), Some(Remedy::ChooseFolder));
    }
}

/// Runs one of this file's own tests in a process of its own, prepared by `shell`.
#[cfg(unix)]
fn in_a_process_of_its_own(test: &str, shell: &str, variables: &BTreeMap<&str, &Path>) {
    let own = std::env::current_exe().unwrap();
    let script = format!("{shell} exec \"$0\" --exact --ignored {test}");
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(own)
        .envs(variables)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

/// A limit on the size of files stands for a full disk: the write fails half-way the same.
#[cfg(unix)]
#[test]
fn a_full_disk_is_a_message_and_leaves_nothing_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let variables = BTreeMap::from([("EASEL_TEST_FOLDER", folder.path())]);
    in_a_process_of_its_own("full_disk", "trap '' XFSZ; ulimit -f 1;", &variables);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
#[ignore = "the inside of a_full_disk_is_a_message_and_leaves_nothing_half_written"]
fn full_disk() {
    let folder = PathBuf::from(std::env::var_os("EASEL_TEST_FOLDER").unwrap());
    let noise = |size: u32| Pixels {
        width_px: size,
        height_px: size,
        rgb: (0..3 * size * size)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect(),
    };
    let target = SaveTarget::Folder(folder);
    let error = output::save_picture(
        &noise(128),
        &settings("x", ""),
        &target,
        PictureFormat::Png,
        0,
    )
    .unwrap_err();
    assert!(error.to_string().starts_with("Saving"), "{error}");
    assert_eq!(error.remedy(), Some(Remedy::ChooseFolder));
}

#[test]
fn exactly_the_file_that_was_asked_for_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new/cat.png");
    let target = SaveTarget::File(file.clone());
    for (index, name) in [(0, "cat.png"), (1, "cat-2.png"), (0, "cat.png")] {
        let path = output::save_picture(
            &pixels(4, 4),
            &settings("x", ""),
            &target,
            PictureFormat::Png,
            index,
        );
        assert_eq!(path.unwrap(), file.with_file_name(name));
    }
    assert_eq!(
        std::fs::read_dir(folder.path().join("new"))
            .unwrap()
            .count(),
        2
    );
}

#[test]
fn save_as_follows_the_ending_and_names_the_three_where_it_is_another() {
    let folder = tempfile::tempdir().unwrap();
    for (name, magic) in [
        ("a.PNG", &b"\x89PNG"[..]),
        ("a.jpeg", b"\xff\xd8"),
        ("a.webp", b"RIFF"),
    ] {
        let to = folder.path().join(name);
        output::save_as(&pixels(4, 4), &settings("x", ""), &to).unwrap();
        assert!(std::fs::read(&to).unwrap().starts_with(magic));
    }
    for name in ["a.gif", "a"] {
        let to = folder.path().join(name);
        let error = output::save_as(&pixels(4, 4), &settings("x", ""), &to).unwrap_err();
        assert!(error.to_string().contains(".png, .jpg or .webp"), "{error}");
    }
}

// --- the history ---

#[test]
fn the_history_is_newest_first_and_shows_pictures_only() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    assert_eq!(
        output::list_pictures(&root.join("none")).unwrap(),
        Vec::<PathBuf>::new()
    );
    for name in [
        "2026-11-24/00002-5.png",
        "2026-11-24/00010-1.webp",
        "2026-11-25/00001-9.jpg",
        "2025-01-01/99999-9.png",
        // Not pictures, or not to be seen.
        "2026-11-25/notes.txt",
        "2026-11-25/.easel-temporary.png",
        "2026-11-25/.deleted/00002-1.png",
        ".hidden/00001-1.png",
    ] {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    std::fs::create_dir(root.join("folder.png")).unwrap();
    // Without a date in its place, the time of its last change counts: between the other years.
    let loose = root.join("cat.png");
    std::fs::write(&loose, "").unwrap();
    let june_2026 = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_780_400_000);
    std::fs::File::options()
        .write(true)
        .open(&loose)
        .unwrap()
        .set_modified(june_2026)
        .unwrap();
    let names: Vec<_> = output::list_pictures(root)
        .unwrap()
        .into_iter()
        .map(|path| {
            path.strip_prefix(root)
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert_eq!(
        names,
        [
            "2026-11-25/00001-9.jpg",
            "2026-11-24/00010-1.webp",
            "2026-11-24/00002-5.png",
            "cat.png",
            "2025-01-01/99999-9.png",
        ]
    );
}

#[test]
fn thumbnails_fit_keep_their_shape_and_are_never_enlarged() {
    let folder = tempfile::tempdir().unwrap();
    let target = SaveTarget::Folder(folder.path().to_path_buf());
    // Left half black, right half white: the halves must stay where they are.
    let mut wide = pixels(600, 200);
    for (index, pixel) in wide.rgb.chunks_mut(3).enumerate() {
        pixel.fill(if index % 600 < 300 { 0 } else { 255 });
    }
    let path =
        output::save_picture(&wide, &settings("x", ""), &target, PictureFormat::Png, 0).unwrap();
    let small = output::thumbnail(&path, 96).unwrap();
    assert_eq!((small.width_px, small.height_px), (96, 32));
    for row in small.rgb.chunks(96 * 3) {
        assert!(row[..40 * 3].iter().all(|value| *value < 3), "{row:?}");
        assert!(row[56 * 3..].iter().all(|value| *value > 252), "{row:?}");
    }
    assert_eq!(output::thumbnail(&path, 600).unwrap(), wide);
    assert_eq!(output::thumbnail(&path, 2000).unwrap(), wide);
    let dot = output::thumbnail(&path, 1).unwrap();
    assert_eq!((dot.width_px, dot.height_px), (1, 1));
}

#[test]
fn transparent_and_sixteen_bit_pictures_open_as_eight_bit_rgb() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.png");
    let rgba = image::Rgba([0u16, 65_535, 32_768, 0]);
    let half = image::Rgba([0u16, 0, 65_535, 32_768]);
    let picture = image::ImageBuffer::from_fn(2, 1, |x, _| if x == 0 { rgba } else { half });
    picture.save(&path).unwrap();
    let opened = output::open_picture(&path).unwrap();
    assert_eq!(opened.rgb, [255, 255, 255, 127, 127, 255]);
}

#[test]
fn a_small_file_that_claims_a_huge_picture_is_refused_before_memory_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.png");
    for side in [60_000u32, 100_000] {
        let mut bytes = png_with(&[]);
        bytes[16..20].copy_from_slice(&side.to_be_bytes());
        bytes[20..24].copy_from_slice(&side.to_be_bytes());
        let checksum = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
        std::fs::write(&path, &bytes).unwrap();
        let error = output::open_picture(&path).unwrap_err();
        assert!(error.to_string().contains("too large"), "{error}");
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    })
}

// --- the trash ---

#[cfg(target_os = "linux")]
#[test]
fn a_deleted_picture_comes_back_from_the_system_s_trash() {
    // Below the home of this test's own process, so that nobody's trash is touched.
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("share");
    std::fs::create_dir(&data).unwrap();
    let variables = BTreeMap::from([
        ("HOME", home.path()),
        ("XDG_DATA_HOME", data.as_path()),
        ("EASEL_TEST_FOLDER", home.path()),
    ]);
    in_a_process_of_its_own("system_trash", "", &variables);
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "the inside of a_deleted_picture_comes_back_from_the_system_s_trash"]
fn system_trash() {
    let home = PathBuf::from(std::env::var_os("EASEL_TEST_FOLDER").unwrap());
    let folder = home.join("Pictures");
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("00001-1.png");
    for text in ["first", "second"] {
        std::fs::write(&path, text).unwrap();
        output::delete(&path).unwrap();
        assert!(!path.exists());
    }
    assert!(
        !folder.join(".deleted").exists(),
        "it went to the system's trash"
    );
    assert_eq!(
        std::fs::read_dir(home.join("share/Trash/files"))
            .unwrap()
            .count(),
        2
    );
    for text in ["second", "first"] {
        output::restore(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        std::fs::remove_file(&path).unwrap();
    }
    let error = output::restore(&path).unwrap_err();
    assert!(
        error.to_string().contains("no longer in the trash"),
        "{error}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn where_there_is_no_trash_a_hidden_folder_beside_keeps_the_picture() {
    // A home that cannot be made: a file lies in its place.
    let place = tempfile::tempdir().unwrap();
    let blocked = place.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let data = blocked.join("share");
    let variables = BTreeMap::from([
        ("HOME", blocked.as_path()),
        ("XDG_DATA_HOME", data.as_path()),
        ("EASEL_TEST_FOLDER", place.path()),
    ]);
    in_a_process_of_its_own("no_trash", "", &variables);
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "the inside of where_there_is_no_trash_a_hidden_folder_beside_keeps_the_picture"]
fn no_trash() {
    let folder = PathBuf::from(std::env::var_os("EASEL_TEST_FOLDER").unwrap());
    let path = folder.join("cat.png");
    std::fs::write(&path, "picture").unwrap();
    output::delete(&path).unwrap();
    assert!(folder.join(".deleted/cat.png").exists());
    output::restore(&path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "picture");
}

// --- properties ---

prop_compose! {
    fn any_settings()(
        texts in proptest::collection::vec(any::<String>(), 5),
        hash in proptest::option::of("[0-9a-f]{10}"),
        path in proptest::option::of(any::<String>()),
        upscaler in proptest::option::of(any::<String>()),
        cancelled_after in proptest::option::of(any::<u32>()),
        sizes in any::<[u32; 5]>(),
        guidance_scale in prop_oneof![
            any::<f64>().prop_filter("finite", |value| value.is_finite()),
            any::<f32>().prop_filter("finite", |value| value.is_finite()).prop_map(f64::from),
            (0u32..300).prop_map(|tenths| f64::from(tenths) / 10.0),
        ],
        rescale in 0u32..=100,
        clip_skip in 1u32..50,
        vae in proptest::option::of(any::<String>()),
        seed in any::<u64>(),
        mode in 0..SEED_MODES.len(),
        sampler in 0..SAMPLERS.len(),
        schedule in 0..SCHEDULES.len(),
    ) -> PictureSettings {
        PictureSettings {
            prompt: texts[0].clone(),
            negative_prompt: texts[1].clone(),
            template: (seed % 3 == 0).then(|| texts[2].clone()),
            negative_template: (seed % 4 == 0).then(|| texts[1].clone()),
            emphasis: EMPHASES[(seed % 6) as usize].id,
            model_name: texts[2].clone(),
            model_path: path.map(PathBuf::from),
            model_hash: hash,
            steps: sizes[0],
            guidance_scale,
            guidance_rescale: f64::from(rescale) / 100.0,
            guidance_interval: (clip_skip % 2 == 0).then(|| GuidanceInterval {
                start: f64::from(rescale) / 200.0,
                stop: 0.5 + f64::from(rescale) / 200.0,
            }),
            clip_skip,
            loras: vae
                .iter()
                .map(|path| LoraChoice { path: path.into(), weight: f64::from(rescale) / 7.0 })
                .collect(),
            embeddings: vae.iter().map(PathBuf::from).collect(),
            hashes: AddOnHashes {
                loras: vae.iter().map(|name| (name.clone(), format!("{seed:012x}"))).collect(),
                ..AddOnHashes::default()
            },
            unet_path: vae.clone().map(PathBuf::from),
            refiner: vae.as_ref().map(|path| RefinerChoice {
                path: path.into(),
                start: f64::from(rescale) / 100.0,
            }),
            refiner_hash: vae.as_ref().map(|_| "7440042bbd".to_owned()),
            hints: PictureHints {
                original_size: (clip_skip % 3 == 0).then_some([sizes[1], sizes[2]]),
                crop: (clip_skip % 2 == 0).then_some([sizes[3], 0]),
                target_size: (clip_skip % 5 == 0).then_some([sizes[2], sizes[1]]),
                aesthetic_score: (rescale % 2 == 0).then_some(f64::from(rescale) / 10.0),
                negative_aesthetic_score: (rescale % 3 == 0).then_some(f64::from(rescale) / 7.0),
            },
            vae_path: vae.map(PathBuf::from),
            seed,
            seeding: Seeding {
                mode: SEED_MODES[mode].id,
                variation_seed: (sizes[0] % 3 == 0).then_some(seed),
                variation_strength: (sizes[0] % 3 == 0).then_some(f64::from(rescale + 1) / 101.0),
                resize_from: (sizes[0] % 5 == 0).then_some([sizes[1], sizes[2]]),
                ensd: (sizes[0] % 2 == 0).then_some(i64::from(sizes[3]) - 70_000 * 70_000),
                batch_index: (SEED_MODES[mode].name == "comfyui").then_some(sizes[1]),
            },
            sampler: SAMPLERS[sampler].id,
            schedule: SCHEDULES[schedule].id,
            tuning: Tuning {
                eta: (seed % 2 == 0).then_some(guidance_scale),
                ..Tuning::default()
            },
            width_px: sizes[1],
            height_px: sizes[2],
            upscaler,
            output_width_px: sizes[3],
            output_height_px: sizes[4],
            device: texts[3].clone(),
            dtype: texts[4].clone(),
            arithmetic: [None, Some(Arithmetic::Fast), Some(Arithmetic::Exact)][seed as usize % 3],
            version: "0.1.0".to_owned(),
            cancelled_after,
            foreign: None,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_settings_come_back_equal_from_every_format(settings in any_settings()) {
        let folder = tempfile::tempdir().unwrap();
        for format in PictureFormat::ALL {
            let path = save_to(folder.path(), &settings, format);
            let recipe = output::read_recipe(&path).unwrap().unwrap();
            prop_assert_eq!(recipe.settings.as_ref(), Some(&settings));
        }
    }

    /// What A1111's own reader needs is in the text alone, without Easel's record.
    #[test]
    fn the_text_alone_gives_the_numbers_and_names_back(
        settings in any_settings(),
        prompt in "[a-z<>(){}|,.]{0,20}",
    ) {
        let settings = PictureSettings {
            prompt: prompt.clone(),
            negative_prompt: String::new(),
            // In the text they are part of the prompt.
            loras: Vec::new(),
            ..settings
        };
        let text = output::infotext(&settings).replace('\0', "");
        let data = [&b"parameters\0\0\0\0\0"[..], text.as_bytes()].concat();
        let recipe = read_bytes(&png_with(&[(b"iTXt", data, true)])).unwrap().unwrap();
        prop_assert_eq!(recipe.request.prompt, prompt);
        prop_assert_eq!(recipe.request.steps, Some(settings.steps));
        prop_assert_eq!(recipe.request.seed, Some(settings.seed));
        prop_assert_eq!(recipe.request.guidance_scale, Some(settings.guidance_scale));
        prop_assert_eq!(recipe.request.guidance_rescale.unwrap_or(0.0), settings.guidance_rescale);
        prop_assert_eq!(recipe.request.guidance_interval, settings.guidance_interval);
        prop_assert_eq!(recipe.request.seeding, settings.seeding);
        prop_assert_eq!(recipe.request.emphasis, settings.emphasis);
        prop_assert_eq!(recipe.request.clip_skip.unwrap_or(1), settings.clip_skip);
        prop_assert_eq!(recipe.request.sampler, Some(settings.sampler));
        prop_assert_eq!(recipe.request.width_px, Some(settings.width_px));
        if settings.schedule.info().a1111_name.is_some() {
            prop_assert_eq!(recipe.request.schedule, Some(settings.schedule));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(
        format in 0..3usize,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = save_to(folder.path(), &settings("a penguin", "blurry"), PictureFormat::ALL[format]);
        let mut bytes = std::fs::read(&path).unwrap();
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        std::fs::write(&path, &bytes).unwrap();
        let _ = output::read_recipe(&path);
        let _ = output::open_picture(&path);
        let _ = output::thumbnail(&path, 4);
    }

    #[test]
    fn no_text_makes_the_infotext_reader_panic(text in any::<String>()) {
        let data = [&b"parameters\0\0\0\0\0"[..], text.as_bytes()].concat();
        let _ = read_bytes(&png_with(&[(b"iTXt", data, true)]));
    }
}
