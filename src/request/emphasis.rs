//! How a prompt weighs its words: whose brackets it is read with, and whose formula.

use serde::{Deserialize, Serialize};

/// The way, by the name of the program or setting that it comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Emphasis {
    #[default]
    Original,
    NoNorm,
    Ignore,
    None,
    Comfyui,
    Compel,
}

/// What menus, command line, metadata and documentation say of a way.
#[derive(Debug)]
pub struct EmphasisInfo {
    pub id: Emphasis,
    /// On the command line.
    pub name: &'static str,
    pub label: &'static str,
    pub tooltip: &'static str,
    /// Of A1111's key `Emphasis`; the last two are Easel's own.
    pub a1111_name: &'static str,
}

/// Every way, in the order of menus.
pub static EMPHASES: [EmphasisInfo; 6] = [
    EmphasisInfo {
        id: Emphasis::Original,
        name: "original",
        label: "Original",
        tooltip: "(word:1.2) as AUTOMATIC1111: weights times the words, the mean kept",
        a1111_name: "Original",
    },
    EmphasisInfo {
        id: Emphasis::NoNorm,
        name: "no-norm",
        label: "No norm",
        tooltip: "As Original, but the mean is not kept; suits SDXL",
        a1111_name: "No norm",
    },
    EmphasisInfo {
        id: Emphasis::Ignore,
        name: "ignore",
        label: "Ignore",
        tooltip: "Brackets are read and change nothing",
        a1111_name: "Ignore",
    },
    EmphasisInfo {
        id: Emphasis::None,
        name: "none",
        label: "None",
        tooltip: "Brackets are letters like any others",
        a1111_name: "None",
    },
    EmphasisInfo {
        id: Emphasis::Comfyui,
        name: "comfyui",
        label: "ComfyUI",
        tooltip: "Prompts as ComfyUI reads and weighs them: only ( ) have a meaning",
        a1111_name: "ComfyUI",
    },
    EmphasisInfo {
        id: Emphasis::Compel,
        name: "compel",
        label: "Compel",
        tooltip: "Prompts as compel and InvokeAI read and weigh them: word++, (two words)1.3",
        a1111_name: "Compel",
    },
];

impl Emphasis {
    /// The entry of the table.
    pub fn info(self) -> &'static EmphasisInfo {
        let [original, no_norm, ignore, none, comfyui, compel] = &EMPHASES;
        match self {
            Self::Original => original,
            Self::NoNorm => no_norm,
            Self::Ignore => ignore,
            Self::None => none,
            Self::Comfyui => comfyui,
            Self::Compel => compel,
        }
    }

    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    /// Whether `AND`, `[a:b:0.5]` and `[a|b]` mean something: not in the programs that do not know
    /// them.
    pub fn composes(self) -> bool {
        match self {
            Self::Original | Self::NoNorm | Self::Ignore | Self::None => true,
            Self::Comfyui | Self::Compel => false,
        }
    }
}
