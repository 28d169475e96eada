//! Starts the real program on a screen of its own (Xvfb), types and clicks as a person would, waits
//! for the picture on disk, and keeps a screenshot as `target/app_program.png`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use easel::settings::{self, Settings};

/// A hang, not a slow machine.
const PATIENCE: Duration = Duration::from_secs(300);
const PACKAGES: &str = "this test needs the packages xvfb, xdotool and imagemagick \
                        (Debian and Ubuntu: apt-get install xvfb xdotool imagemagick)";
/// In the prompt, and on Generate, in a window of 1280 x 820.
const PROMPT: [&str; 2] = ["150", "140"];
const GENERATE: [&str; 2] = ["120", "793"];

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Screen {
    _server: Running,
    display: String,
}

impl Screen {
    /// A screen on a display that the server itself finds free.
    fn start() -> Self {
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1280x820x24"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("Xvfb: {error}; {PACKAGES}"));
        let output = server.stdout.take().unwrap();
        let mut number = String::new();
        BufReader::new(output).read_line(&mut number).unwrap();
        assert!(!number.trim().is_empty(), "Xvfb gave no display");
        Self {
            _server: Running(server),
            display: format!(":{}", number.trim()),
        }
    }

    /// Runs a tool on this screen and gives what it prints.
    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program)
            .args(arguments)
            .env("DISPLAY", &self.display)
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}; {PACKAGES}"));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What the screen shows, also kept in a file.
    fn shot(&self, file: &Path) -> Option<image::RgbImage> {
        self.run("import", &["-window", "root", &file.to_string_lossy()]);
        Some(image::open(file).ok()?.to_rgb8())
    }

    fn click(&self, at: [&str; 2]) {
        self.run("xdotool", &["mousemove", at[0], at[1], "click", "1"]);
    }
}

/// Looks again and again until something is there.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "never saw {what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn first_picture(folder: &Path) -> Option<PathBuf> {
    for day in std::fs::read_dir(folder).ok()?.flatten() {
        for file in std::fs::read_dir(day.path()).ok()?.flatten() {
            if file
                .path()
                .extension()
                .is_some_and(|ending| ending == "png")
            {
                return Some(file.path());
            }
        }
    }
    None
}

#[test]
fn a_person_types_a_prompt_clicks_generate_and_finds_the_picture() {
    let home = tempfile::tempdir().unwrap();
    let pictures = home.path().join("pictures");
    let settings_path = home.path().join("config/easel/settings.json");
    let mut before = Settings {
        pictures: Some(pictures.clone()),
        ..Settings::default()
    };
    before.request.steps = Some(6);
    before.window.size = [1280.0, 820.0];
    before.window.position = Some([0.0, 0.0]);
    settings::save(&settings_path, &before).unwrap();

    let screen = Screen::start();
    let mut program = Command::new(env!("CARGO_BIN_EXE_easel"))
        .env("DISPLAY", &screen.display)
        .env("HOME", home.path())
        .env("XDG_CONFIG_HOME", home.path().join("config"))
        .env("LIBGL_ALWAYS_SOFTWARE", "1")
        .env_remove("WAYLAND_DISPLAY")
        .spawn()
        .map(Running)
        .unwrap();
    let window = wait_for("the window", || {
        let found = screen.run("xdotool", &["search", "--onlyvisible", "--name", "^Easel$"]);
        found.lines().next().map(str::to_owned)
    });
    screen.run("xdotool", &["windowmove", "--sync", &window, "0", "0"]);
    screen.run("xdotool", &["windowfocus", "--sync", &window]);
    let look = home.path().join("look.png");
    wait_for("the Generate button", || {
        let shown = screen.shot(&look)?;
        let pixel = shown.get_pixel(40, 793).0;
        let near = |channel: usize, value: u8| pixel[channel].abs_diff(value) < 4;
        (near(0, 0xF0) && near(1, 0xA0) && near(2, 0x4B)).then_some(())
    });
    screen.click(PROMPT);
    screen.run("xdotool", &["type", "--delay", "20", "a penguin, 3d style"]);
    wait_for("the typed prompt", || {
        let typed = settings::load(&settings_path).request.prompt;
        (typed == "a penguin, 3d style").then_some(())
    });
    screen.click(GENERATE);
    let picture = wait_for("the picture on disk", || first_picture(&pictures));
    let (width, height) = image::image_dimensions(&picture).unwrap();
    assert_eq!((width, height), (256, 256));
    keep_screenshot(&screen);
    screen.run("xdotool", &["key", "ctrl+q"]);
    let status = wait_for("the end of the program", || program.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
    let after = settings::load(&settings_path);
    assert_eq!(after.request.prompt, "a penguin, 3d style");
    assert_eq!(after.request.steps, Some(6));
}

/// Keeps what the window shows once two looks at it are the same.
fn keep_screenshot(screen: &Screen) {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../app_program.png");
    let mut last = None;
    wait_for("a window at rest", || {
        // Without the prompt, whose cursor blinks.
        let now = screen
            .shot(&target)
            .map(|shown| image::imageops::crop_imm(&shown, 320, 48, 960, 772).to_image());
        let same = now.is_some() && now == last;
        last = now;
        same.then_some(())
    });
}
