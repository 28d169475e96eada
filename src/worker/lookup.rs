//! Finds on this machine the files that a picture of another program, or of another machine, names.
//!
//! A model is known by its hash, where both are known, else by its name; a UNet, a VAE and LoRAs as prompts
//! and drawings know them ([`AddOn::find`]). What is not here is noted.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::prompt::networks;
use crate::request::{
    AddOn, AddOnKind, FileRole, GenerationRequest, GoneFile, MOST_NOTES, ModelCard, NamedFile,
    Recipe, RefinerChoice,
};

/// Of a prompt's LoRAs, more are not looked for: the window waits meanwhile.
const MOST_LORAS: usize = 1000;

/// Puts the model and the VAE that `recipe` names into its request, where they are among `models` and
/// `add_ons`, and notes what is not there, LoRAs of its prompt too.
pub fn look_up(recipe: &mut Recipe, models: &[ModelCard], add_ons: &[AddOn]) {
    let files = std::mem::take(&mut recipe.files);
    if let Some(file) = &files.model {
        look_up_model(recipe, file, models, add_ons);
    }
    if let Some((file, start)) = &files.refiner {
        look_up_refiner(recipe, file, *start, models);
    }
    for gone in files.gone {
        let found = match gone.role {
            FileRole::Model => model_again(recipe, &gone, models).map(|card| {
                // The one that ships has no path.
                recipe.request.model.clone_from(&card.path);
            }),
            _ => find_again(recipe, &gone, models, add_ons)
                .map(|there| put(&mut recipe.request, &gone, there)),
        };
        if found.is_some() {
            let note = gone.note();
            recipe.notes.retain(|known| *known != note);
        }
    }
    if let Some(file) = &files.vae {
        match vae(add_ons, &file.name) {
            Some(vae) => recipe.request.vae = Some(vae.path.clone()),
            None => recipe.notes.push(format!(
                "It was drawn with the VAE {file}, which is in none of the model folders; the model's own is used."
            )),
        }
    }
    let mut seen = BTreeSet::new();
    let loras = networks::loras(&recipe.request.prompt).into_iter();
    let different = loras.filter(|lora| seen.insert(lora.name.clone()));
    let hashes = &recipe.request.hashes.loras;
    let missing = different.take(MOST_LORAS).filter(|lora| {
        let hash = hashes.get(&lora.name).map(String::as_str);
        AddOn::find(add_ons, AddOnKind::Lora, &lora.name, hash).is_none()
    });
    let notes = missing.take(MOST_NOTES).map(|lora| {
        let name = lora.name;
        format!(
            "Its prompt names the LoRA {name}, which is in none of the model folders: put its file there, or draw with a prompt without <lora:{name}>."
        )
    });
    recipe.notes.extend(notes);
}

/// The model of a picture that Easel drew, or its refiner, where it lies now: by its file's hash or name,
/// a model also by what it was called.
fn model_again<'a>(
    recipe: &mut Recipe,
    gone: &GoneFile,
    models: &'a [ModelCard],
) -> Option<&'a ModelCard> {
    let settings = recipe.settings.as_ref()?;
    let (hash, called) = match gone.role {
        FileRole::Model => (&settings.model_hash, settings.model_name.as_str()),
        _ => (&settings.refiner_hash, ""),
    };
    let file = NamedFile::of_path(&gone.path, hash.as_deref());
    let called = NamedFile {
        name: called.to_owned(),
        hash: None,
    };
    let card = find(&file, models).or_else(|| find(&called, models))?;
    recipe.notes.extend(another_file(&file, card));
    Some(card)
}

/// Where any other file lies now that Easel drew a picture with.
fn find_again(
    recipe: &mut Recipe,
    gone: &GoneFile,
    models: &[ModelCard],
    add_ons: &[AddOn],
) -> Option<PathBuf> {
    let name = NamedFile::of_path(&gone.path, None).name;
    let of_kind = |kind, hash| AddOn::find(add_ons, kind, &name, hash);
    let add_on = match gone.role {
        FileRole::Model | FileRole::Refiner => {
            return model_again(recipe, gone, models)?.path.clone();
        }
        FileRole::Vae => vae(add_ons, &name),
        FileRole::Lora => {
            let hash = recipe.settings.as_ref()?.hashes.loras.get(&name);
            of_kind(AddOnKind::Lora, hash.map(String::as_str))
        }
        FileRole::Embedding => of_kind(AddOnKind::Embedding, None),
        FileRole::Unet => of_kind(AddOnKind::Unet, None),
    };
    add_on.map(|it| it.path.clone())
}

/// Puts what was found into the place of what is gone.
fn put(request: &mut GenerationRequest, gone: &GoneFile, there: PathBuf) {
    match gone.role {
        FileRole::Model => request.model = Some(there),
        FileRole::Unet => request.unet = Some(there),
        FileRole::Vae => request.vae = Some(there),
        FileRole::Refiner => {
            if let Some(refiner) = &mut request.refiner {
                refiner.path = there;
            }
        }
        FileRole::Lora => {
            let loras = request.loras.iter_mut();
            for lora in loras.filter(|lora| lora.path == gone.path) {
                lora.path.clone_from(&there);
            }
        }
        FileRole::Embedding => {
            let embeddings = request.embeddings.iter_mut();
            for path in embeddings.filter(|path| **path == gone.path) {
                path.clone_from(&there);
            }
        }
    }
}

/// A large one, else a small one.
fn vae<'a>(add_ons: &'a [AddOn], name: &str) -> Option<&'a AddOn> {
    let of_kind = |kind| AddOn::find(add_ons, kind, name, None);
    of_kind(AddOnKind::Vae).or_else(|| of_kind(AddOnKind::TinyVae))
}

/// The model, else the UNet of that name: ComfyUI loads one alone, and what is drawn with one is called
/// by it.
fn look_up_model(recipe: &mut Recipe, file: &NamedFile, models: &[ModelCard], add_ons: &[AddOn]) {
    let Some(card) = find(file, models) else {
        if let Some(unet) = AddOn::find(add_ons, AddOnKind::Unet, &file.name, None) {
            recipe.request.unet = Some(unet.path.clone());
            recipe.notes.push(format!(
                "It was drawn with the UNet {file}, which is here; the rest is taken from the model that is chosen."
            ));
            return;
        }
        recipe.notes.push(format!(
            "It was drawn with the model {file}, which is in none of the model folders; another model draws another picture."
        ));
        return;
    };
    recipe.request.model.clone_from(&card.path);
    recipe.notes.extend(another_file(file, card));
}

/// The model that drew a picture's last steps, from `start` on.
fn look_up_refiner(recipe: &mut Recipe, file: &NamedFile, start: f64, models: &[ModelCard]) {
    let card = find(file, models);
    match card.and_then(|card| Some((card, card.path.clone()?))) {
        Some((card, path)) => {
            recipe.request.refiner = Some(RefinerChoice { path, start });
            recipe.notes.extend(another_file(file, card));
        }
        None => recipe.notes.push(format!(
            "Its last steps, from {start} on, were drawn by the refiner {file}, which is in none of the model folders."
        )),
    }
}

/// By its hash, else by its name.
fn find<'a>(file: &NamedFile, models: &'a [ModelCard]) -> Option<&'a ModelCard> {
    let by_hash = models
        .iter()
        .find(|card| has_hash(card, file) == Some(true));
    by_hash.or_else(|| models.iter().find(|card| same(&file.name, &card.name)))
}

/// Whether it has the file's hash, where both are known.
fn has_hash(card: &ModelCard, file: &NamedFile) -> Option<bool> {
    let (known, hash) = card.sha256.as_deref().zip(file.hash.as_deref())?;
    Some(known.starts_with(hash))
}

/// What is to be noted of a model that was found by its name, and has another hash.
fn another_file(file: &NamedFile, card: &ModelCard) -> Option<String> {
    let hash = file.hash.as_deref()?;
    (has_hash(card, file) == Some(false)).then(|| {
        format!(
            "The model {} here is another file than the one it was drawn with ({hash}).",
            card.name
        )
    })
}

/// Programs differ in capitals, and in whether a name has the file's ending.
fn same(wanted: &str, name: &str) -> bool {
    let name = NamedFile::new(name, None).name;
    !wanted.is_empty() && wanted.to_lowercase() == name.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{
        LoraChoice, ModelDefaults, NamedFiles, PictureSettings, SamplerId, ScheduleId,
    };
    use crate::worker::job::unknown_settings;

    fn card(name: &str, sha256: Option<&str>) -> ModelCard {
        ModelCard {
            path: Some(PathBuf::from(format!("models/{name}"))),
            name: name.to_owned(),
            description: String::new(),
            family: String::new(),
            size_bytes: 0,
            picture: None,
            sha256: sha256.map(str::to_owned),
            defaults: ModelDefaults {
                steps: 20,
                guidance_scale: 7.0,
                sampler: SamplerId::Euler,
                schedule: ScheduleId::Model,
                width_px: 512,
                height_px: 512,
                upscaler: None,
            },
            latent_factor: 8,
            chunk_tokens: 75,
            examples: Vec::new(),
            concepts: Vec::new(),
            styles: Vec::new(),
            backgrounds: Vec::new(),
        }
    }

    fn add_on(kind: AddOnKind, name: &str) -> AddOn {
        AddOn {
            kind,
            name: name.to_owned(),
            path: PathBuf::from(format!("add-ons/{name}")),
            size_bytes: 0,
            picture: None,
            hash: None,
            trained_as: None,
            notes: Default::default(),
        }
    }

    fn found(model: NamedFile, models: &[ModelCard]) -> (Option<PathBuf>, String) {
        let mut recipe = Recipe {
            files: NamedFiles {
                model: Some(model),
                ..NamedFiles::default()
            },
            ..Recipe::default()
        };
        look_up(&mut recipe, models, &[]);
        (recipe.request.model, recipe.notes.join("\n"))
    }

    #[test]
    fn a_model_is_found_by_its_hash_before_its_name() {
        let models = [
            card("Dreamshaper_8", Some("ffff00001111")),
            card("renamed", Some("879db523c30d3b90")),
        ];
        let path = |name: &str| Some(PathBuf::from(format!("models/{name}")));
        let named = |hash| NamedFile::new("SD1/dreamshaper_8.safetensors", hash);
        assert_eq!(
            found(named(Some("879DB523C3")), &models),
            (path("renamed"), String::new())
        );
        assert_eq!(
            found(named(None), &models),
            (path("Dreamshaper_8"), String::new())
        );
        let (model, notes) = found(named(Some("0123456789")), &models);
        assert_eq!(model, path("Dreamshaper_8"));
        assert!(notes.contains("another file"), "{notes}");
        let (model, notes) = found(NamedFile::new("other", None), &models);
        assert_eq!(model, None);
        assert!(
            notes.contains("the model other, which is in none"),
            "{notes}"
        );
    }

    #[test]
    fn a_unet_that_a_picture_names_in_the_place_of_a_model_is_found() {
        let mut recipe = Recipe {
            files: NamedFiles {
                model: Some(NamedFile::new("unet\\dream-Q8_0.gguf", None)),
                ..NamedFiles::default()
            },
            ..Recipe::default()
        };
        let unet = add_on(AddOnKind::Unet, "dream-Q8_0");
        look_up(&mut recipe, &[], std::slice::from_ref(&unet));
        assert_eq!(recipe.request.unet, Some(unet.path));
        assert_eq!(recipe.notes.len(), 1);
        assert!(
            recipe.notes[0].contains("the rest is taken from the model that is chosen"),
            "{:?}",
            recipe.notes
        );
    }

    #[test]
    fn a_refiner_is_found_like_a_model_and_noted_where_it_is_not() {
        let refined = |models: &[ModelCard]| {
            let refiner = NamedFile::new("sd_xl_refiner", Some("7440042bbd"));
            let mut recipe = Recipe {
                files: NamedFiles {
                    refiner: Some((refiner, 0.75)),
                    ..NamedFiles::default()
                },
                ..Recipe::default()
            };
            look_up(&mut recipe, models, &[]);
            (recipe.request.refiner, recipe.notes.join("\n"))
        };
        let expected = RefinerChoice {
            path: PathBuf::from("models/renamed"),
            start: 0.75,
        };
        let here = [card("renamed", Some("7440042bbd0000"))];
        assert_eq!(refined(&here), (Some(expected), String::new()));
        let (refiner, notes) = refined(&[]);
        assert_eq!(refiner, None);
        assert!(
            notes.contains("from 0.75 on, were drawn by the refiner sd_xl_refiner (7440042bbd)"),
            "{notes}"
        );
    }

    #[test]
    fn what_a_picture_of_easels_was_drawn_with_is_found_where_it_lies_now() {
        let old = |name: &str| PathBuf::from(format!("old/{name}.safetensors"));
        let lora = |path: PathBuf| LoraChoice { path, weight: 0.5 };
        let settings = PictureSettings {
            model_path: Some(old("Mine")),
            model_name: "My model".to_owned(),
            unet_path: Some(old("quantised")),
            vae_path: Some(old("fine")),
            refiner: Some(RefinerChoice {
                path: old("refine"),
                start: 0.8,
            }),
            loras: vec![lora(old("ink")), lora(old("lost")), lora(old("there"))],
            embeddings: vec![old("neg")],
            ..unknown_settings()
        };
        let gone = [
            (FileRole::Model, "Mine"),
            (FileRole::Unet, "quantised"),
            (FileRole::Vae, "fine"),
            (FileRole::Refiner, "refine"),
            (FileRole::Lora, "ink"),
            (FileRole::Lora, "lost"),
            (FileRole::Embedding, "neg"),
        ]
        .map(|(role, name)| GoneFile {
            role,
            path: old(name),
        });
        let mut recipe = Recipe {
            request: settings.to_request(),
            notes: gone.iter().map(GoneFile::note).collect(),
            files: NamedFiles {
                gone: gone.to_vec(),
                ..NamedFiles::default()
            },
            settings: Some(settings),
            ..Recipe::default()
        };
        let add_ons = [
            add_on(AddOnKind::Lora, "ink"),
            add_on(AddOnKind::Lora, "there"),
            add_on(AddOnKind::Embedding, "lost"),
            add_on(AddOnKind::Embedding, "neg"),
            add_on(AddOnKind::TinyVae, "fine"),
            add_on(AddOnKind::Unet, "Quantised"),
        ];
        let models = [card("my model", None), card("Refine", None)];
        look_up(&mut recipe, &models, &add_ons);
        let now = |name: &str| PathBuf::from(format!("add-ons/{name}"));
        let request = &recipe.request;
        assert_eq!(request.model, Some(PathBuf::from("models/my model")));
        assert_eq!(request.unet, Some(now("Quantised")));
        assert_eq!(request.vae, Some(now("fine")));
        let refiner = request.refiner.as_ref().map(|refiner| refiner.path.clone());
        assert_eq!(refiner, Some(PathBuf::from("models/Refine")));
        // What lies where it lay is not looked for.
        let loras = [lora(now("ink")), lora(old("lost")), lora(old("there"))];
        assert_eq!(request.loras, loras);
        assert_eq!(request.embeddings, [now("neg")]);
        assert_eq!(recipe.notes, [gone[5].note()]);
    }

    #[test]
    fn the_model_that_ships_is_found_where_it_ships_now() {
        let old = PathBuf::from("old/weights/starter");
        let settings = PictureSettings {
            model_path: Some(old.clone()),
            model_name: "Starter".to_owned(),
            ..unknown_settings()
        };
        let gone = GoneFile {
            role: FileRole::Model,
            path: old,
        };
        let mut recipe = Recipe {
            request: settings.to_request(),
            notes: vec![gone.note()],
            files: NamedFiles {
                gone: vec![gone],
                ..NamedFiles::default()
            },
            settings: Some(settings),
            ..Recipe::default()
        };
        let ships = ModelCard {
            path: None,
            ..card("Starter", None)
        };
        look_up(&mut recipe, &[ships], &[]);
        assert_eq!((recipe.request.model, recipe.notes), (None, vec![]));
    }

    #[test]
    fn a_vae_and_loras_are_found_by_their_names() {
        let mut recipe = Recipe {
            files: NamedFiles {
                vae: Some(NamedFile::new("kl-f8.ckpt", None)),
                ..NamedFiles::default()
            },
            ..Recipe::default()
        };
        recipe.request.prompt = "a <lora:ink:0.5> <lora:gone:1>".to_owned();
        let add_ons = [
            add_on(AddOnKind::Lora, "ink"),
            add_on(AddOnKind::Vae, "gone"),
            add_on(AddOnKind::Vae, "kl-f8"),
        ];
        look_up(&mut recipe, &[], &add_ons);
        assert_eq!(recipe.request.vae, Some(PathBuf::from("add-ons/kl-f8")));
        assert_eq!(recipe.notes.len(), 1);
        assert!(
            recipe.notes[0].contains("the LoRA gone"),
            "{:?}",
            recipe.notes
        );
    }
}
