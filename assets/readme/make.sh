#!/bin/sh
# Makes the README's pictures with the release program and the weights that ship: six drawings, and the
# window as a person sees it after drawing them. Needs Xvfb, xdotool and ImageMagick.
set -eu
cd "$(dirname "$0")/../.."
cargo xtask setup
cargo build --release --package easel
easel=target/release/easel
home=$(mktemp -d)
export HOME="$home" XDG_CONFIG_HOME="$home" XDG_DATA_HOME="$home"
unset WAYLAND_DISPLAY
pictures=$home/Pictures/Easel/$(date +%F)

while IFS='|' read -r seed prompt; do
    "$easel" generate "$prompt" --seed "$seed" --quiet --output "$pictures/" </dev/null >/dev/null
done <<END
1|a smiling face with sunglasses, 3d style
2|a fish, 3d style
2|a cat face, flat style
1|a strawberry, 3d style, on a yellow background
3|a smiling face with sunglasses, noto style
1|a star, 3d style, on a blue background
END
montage "$pictures"/*.png -resize 160x160 -geometry +6+6 -tile 6x -background white -quality 92 assets/readme/pictures.jpg

Xvfb -displayfd 3 -screen 0 1280x800x24 -nolisten tcp 3>"$home/display" 2>/dev/null &
screen=$!
trap 'kill $screen; rm -rf "$home"' EXIT
while [ ! -s "$home/display" ]; do sleep 0.1; done
DISPLAY=:$(cat "$home/display")
export DISPLAY
"$easel" &
window=$!
until xdotool search --onlyvisible --name Easel >/dev/null 2>&1; do sleep 0.2; done
id=$(xdotool search --onlyvisible --name '^Easel$' | head -1)
xdotool windowmove --sync "$id" 0 0 windowsize "$id" 1280 800 windowfocus --sync "$id"
sleep 5
xdotool mousemove 150 140 click 1
xdotool type --delay 20 "a penguin, 3d style"
xdotool key ctrl+Return
drawn() { find "$home/Pictures" -name '*.png' | wc -l; }
until [ "$(drawn)" -ge 7 ]; do sleep 0.5; done
sleep 5
import -window root assets/readme/window.png
kill $window
