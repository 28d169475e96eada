//! Shows the window in one of its states over a scripted worker, for looking at it:
//! `cargo run --example window_states -- drawing`. States: first loading drawing several done grid
//! failed cancelled none chinese.

#[path = "../tests/app_support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use easel::error::Error;
use easel::request::Pixels;
use easel::worker::channel;
use easel::worker::message::{Command, Event, FileCommand, Job, OpenedPicture};
use support::{Script, ball, card, kind_of};

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "first".to_owned());
    let settings = arguments.next().map(std::path::PathBuf::from);
    easel::app::run(
        move |wake| {
            let (handle, ends) = channel();
            let script = Script { ends };
            std::thread::Builder::new()
                .name("script".to_owned())
                .spawn(move || play(&script, &name, &wake))
                .map_err(|source| Error::io("Reading", "script", source))?;
            Ok(handle)
        },
        settings,
    )
}

fn play(script: &Script, name: &str, wake: &dyn Fn()) {
    match name {
        "none" => script.say(Event::ModelsFound(Vec::new())),
        "loading" => {
            script.say(Event::ModelsFound(vec![card()]));
            script.say(Event::ModelLoading {
                name: "Starter".to_owned(),
                fraction: 0.4,
            });
        }
        _ => script.ready(),
    }
    script.history(if ["first", "none", "loading"].contains(&name) {
        0
    } else {
        47
    });
    loop {
        for command in script.files() {
            answer(script, command);
        }
        for command in script.commands() {
            if let Command::Generate(job) = command {
                draw(script, name, &job, wake);
            }
        }
        wake();
        std::thread::sleep(Duration::from_millis(30));
    }
}

fn draw(script: &Script, name: &str, job: &Job, wake: &dyn Fn()) {
    script.start(job);
    let steps = job.request.steps.unwrap_or(20) as usize;
    let stop = if ["drawing", "several", "cancelled"].contains(&name) {
        steps * 3 / 5
    } else {
        steps
    };
    for step in 1..=stop {
        script.step(job, step, steps);
        wake();
        std::thread::sleep(Duration::from_millis(20));
    }
    match name {
        "drawing" | "several" => {}
        "cancelled" => script.say(Event::Cancelled { job: job.id }),
        "failed" => script.say(Event::Failed {
            job: job.id,
            failure: Error::OutOfMemory {
                details: "DefaultCPUAllocator: can't allocate memory: you tried to allocate 17 GB"
                    .to_owned(),
            }
            .into(),
        }),
        _ => {
            for index in 0..job.request.count.unwrap_or(1) as usize {
                script.picture(job, index);
            }
            script.finish(job.id);
        }
    }
}

fn answer(script: &Script, command: FileCommand) {
    match command {
        FileCommand::Thumbnail { path, .. } => {
            let pixels: Arc<Pixels> = Arc::new(ball(128, kind_of(&path), 0.0));
            script.say(Event::ThumbnailReady { path, pixels });
        }
        FileCommand::OpenPicture { path } => {
            let pixels = Arc::new(ball(256, kind_of(&path), 0.0));
            let opened = OpenedPicture {
                pixels,
                recipe: None,
            };
            script.say(Event::PictureOpened { path, opened });
        }
        FileCommand::CountTokens { prompt, .. } => {
            let tokens = Some(prompt.split_whitespace().count());
            script.say(Event::TokensCounted { prompt, tokens });
        }
        FileCommand::Delete { path } => script.say(Event::Deleted { path }),
        FileCommand::Restore { path } => script.say(Event::Restored { path }),
        FileCommand::FindModels { .. }
        | FileCommand::ListHistory { .. }
        | FileCommand::SaveAs { .. }
        | FileCommand::ShowInFolder { .. } => {}
    }
}
