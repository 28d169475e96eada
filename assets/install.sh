#!/bin/sh
# Puts Easel into your menu (no root needed), or takes it out again: ./install.sh [--remove]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
data=${XDG_DATA_HOME:-"$HOME/.local/share"}
entry=$data/applications/easel.desktop
svg=$data/icons/hicolor/scalable/apps/easel.svg
png=$data/icons/hicolor/256x256/apps/easel.png

if [ "${1:-}" = --remove ]; then
    rm -f "$entry" "$svg" "$png"
    echo "Easel is out of the menu. Its folder $here can be deleted."
    exit 0
fi
mkdir -p "$(dirname "$entry")" "$(dirname "$svg")" "$(dirname "$png")"
cp "$here/easel.svg" "$svg"
cp "$here/easel.png" "$png"
sed "s|^Exec=.*|Exec=\"$here/easel\"|" "$here/easel.desktop" >"$entry"
if command -v update-desktop-database >/dev/null 2>&1; then
    update-desktop-database "$data/applications" || true
fi
echo "Easel is in the menu now. It runs from $here: run this again if you move the folder."
