//! Easel's window on a screen in memory (Xvfb): how soon it is there, and how soon it shows what is typed,
//! idle and while all cores draw.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use easel::error::{Error, Result};

use crate::screen::{Area, Screen};
use crate::{peak_mb, report};

/// What the window logs when its first complete frame is on its way to the screen.
const USABLE: &str = "the window is usable";

/// The window's start, with settings of its own: median of five.
pub fn start() -> Result<()> {
    let screen = Screen::start()?;
    let mut times = Vec::new();
    let mut peak = 0;
    for _ in 0..6 {
        let home = folder()?;
        let begin = Instant::now();
        let window = Window::open(&screen, home.path())?;
        times.push(begin.elapsed().as_secs_f64());
        peak = peak_mb(&window.program.0.id().to_string()).max(peak);
    }
    times.remove(0); // the first one reads the program from the disk
    times.sort_by(f64::total_cmp);
    report(times.get(2).copied().unwrap_or_default(), None, peak);
    Ok(())
}

/// Keys for each of the two.
const KEYS: usize = 200;
/// A job that is not over before the keys are.
const SETTINGS: &str = r#"{"request": {"prompt": "a penguin, 3d style", "count": 100, "steps": 150,
    "width_px": 256, "height_px": 256}}"#;
/// Until what comes after the frame that was seen is over; before the cursor blinks, half a second after a
/// key.
const BETWEEN: Duration = Duration::from_millis(80);
/// Until a key is seen, or the program rests or draws.
const TOO_LONG: Duration = Duration::from_secs(60);

/// From a key to its letter on the screen, milliseconds, idle and while the starter draws.
pub fn smooth() -> Result<()> {
    let screen = Screen::start()?;
    let home = folder()?;
    for place in ["easel", ".config/easel"] {
        let path = home.path().join(place).join("settings.json");
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.map_err(|error| Error::io("Making", &path, error))?;
        easel::files::atomic_write(&path, SETTINGS.as_bytes())?;
    }
    let window = Window::open(&screen, home.path())?;
    let mut keys = Keys::start(&screen)?;
    keys.send("search --sync --onlyvisible --name Easel windowfocus mousemove 700 770")?;
    // The model loads behind the window.
    window.uses_processor(&|cores| cores < 0.1)?;
    let area = written(&screen, &mut keys)?;
    let idle = latencies(&screen, &mut keys, &area)?;
    keys.send("key ctrl+Return")?;
    window.uses_processor(&|cores| cores > 0.4)?;
    let (begin, before) = (Instant::now(), window.processor_seconds());
    let drawing = latencies(&screen, &mut keys, &area)?;
    let cores = (window.processor_seconds() - before) / begin.elapsed().as_secs_f64();
    println!(
        "{{\"idle\": {}, \"drawing\": {}, \"cores\": {cores:.2}}}",
        shares(idle),
        shares(drawing)
    );
    Ok(())
}

/// A line of text, pixels. Below it stands the counter of tokens, which follows when it can.
const LINE: usize = 20;

/// Where a letter that is typed changes the screen.
fn written(screen: &Screen, keys: &mut Keys) -> Result<Area> {
    let before = screen.picture(&screen.whole)?;
    keys.send("key x")?;
    std::thread::sleep(BETWEEN);
    let after = screen.picture(&screen.whole)?;
    keys.send("key BackSpace")?;
    std::thread::sleep(BETWEEN);
    let area = screen.whole.changed(&before, &after);
    area.map(|area| area.top(LINE))
        .ok_or_else(|| Error::Request("the window shows nothing of what is typed".to_owned()))
}

/// A letter, then the key that takes it away, in turns.
fn latencies(screen: &Screen, keys: &mut Keys, area: &Area) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(KEYS);
    for key in ["key x", "key BackSpace"].into_iter().cycle().take(KEYS) {
        let before = screen.picture(area)?;
        let begin = Instant::now();
        keys.send(key)?;
        while screen.picture(area)? == before {
            if begin.elapsed() > TOO_LONG {
                return Err(Error::Request(format!("nothing was seen of {key}")));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        times.push(1e3 * begin.elapsed().as_secs_f64());
        // Not in step with what is drawn.
        let uneven = Duration::from_millis(7 * (times.len() as u64 % 11));
        std::thread::sleep(BETWEEN);
        let settled = screen.picture(area)?;
        std::thread::sleep(uneven);
        if screen.picture(area)? != settled {
            return Err(Error::Request(
                "something else moves in the text".to_owned(),
            ));
        }
    }
    Ok(times)
}

/// The median, and what 95 and 99 of 100 do not exceed.
fn shares(mut times: Vec<f64>) -> String {
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(place).copied().unwrap_or_default()
    };
    let (median, most, nearly_all) = (at(50), at(95), at(99));
    format!("{{\"median\": {median:.1}, \"p95\": {most:.1}, \"p99\": {nearly_all:.1}}}")
}

fn folder() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(|error| Error::io("Making", "", error))
}

/// A program that ends with this value.
pub struct Program(pub Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program beside this bench, as far as its first complete frame.
struct Window {
    program: Program,
    /// Held, so that it can go on to write there.
    _errors: BufReader<ChildStderr>,
}

impl Window {
    fn open(screen: &Screen, home: &Path) -> Result<Self> {
        let target = std::env::current_exe().ok();
        let folder = target.as_deref().and_then(|path| path.ancestors().nth(2));
        let path = folder.map_or_else(|| PathBuf::from("easel"), |folder| folder.join("easel"));
        let mut command = Command::new(&path);
        command
            .env("DISPLAY", &screen.display)
            .env_remove("WAYLAND_DISPLAY");
        command
            .env("HOME", home)
            .env("XDG_CONFIG_HOME", home)
            .env("XDG_DATA_HOME", home);
        command.env("RUST_LOG", "easel=info");
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn();
        let mut program = Program(child.map_err(|error| Error::io("Starting", &path, error))?);
        let closed = || Error::Request("the window closed before it was usable".to_owned());
        let mut errors = BufReader::new(program.0.stderr.take().ok_or_else(closed)?);
        let mut lines = errors.by_ref().lines().map_while(std::io::Result::ok);
        if !lines.any(|line| line.contains(USABLE)) {
            return Err(closed());
        }
        Ok(Self {
            program,
            _errors: errors,
        })
    }

    /// Waits until it takes so many cores, looked at over half a second.
    fn uses_processor(&self, enough: &dyn Fn(f64) -> bool) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < TOO_LONG {
            let (since, before) = (Instant::now(), self.processor_seconds());
            std::thread::sleep(Duration::from_millis(500));
            let used = self.processor_seconds() - before;
            if enough(used / since.elapsed().as_secs_f64()) {
                return Ok(());
            }
        }
        let message = "the program draws where it should rest, or rests where it should draw";
        Err(Error::Request(message.to_owned()))
    }

    /// Of all its threads so far, by Linux's account.
    fn processor_seconds(&self) -> f64 {
        const TICKS: f64 = 100.0;
        let path = format!("/proc/{}/stat", self.program.0.id());
        let stat = std::fs::read_to_string(path).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields = after_name.split_whitespace().skip(11).take(2);
        fields.filter_map(|it| it.parse::<f64>().ok()).sum::<f64>() / TICKS
    }
}

/// A keyboard: `xdotool`, which waits for lines.
struct Keys {
    _program: Program,
    lines: ChildStdin,
}

impl Keys {
    fn start(screen: &Screen) -> Result<Self> {
        let failed = |error| Error::io("Starting", "xdotool", error);
        let mut command = Command::new("xdotool");
        command.arg("-").env("DISPLAY", &screen.display);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut program = Program(command.spawn().map_err(failed)?);
        let lines = program.0.stdin.take();
        let lines = lines.ok_or_else(|| failed(std::io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self {
            _program: program,
            lines,
        })
    }

    fn send(&mut self, line: &str) -> Result<()> {
        let sent = writeln!(self.lines, "{line}");
        sent.map_err(|error| Error::io("Telling", "xdotool", error))
    }
}
