#!/usr/bin/env bash
# Install the node for a service, without test tools; run by `make install` and `make uninstall`.
#
# Each version lies in a folder of its own, and a link says which one runs: the old one stays whole while the new one is
# made, a failed installation changes nothing, and the way back is the link. Done twice, it changes nothing more.
#
#   PREFIX/releases/VERSION   a virtual environment      /etc/dicom-node/node.toml   the settings, made once
#   PREFIX/current            the one that runs          /var/lib/dicom-node         the data
#   PREFIX/previous           the one before it          /etc/systemd/system         the unit
#
# DESTDIR builds the same tree below another folder, for a package or an image; no user is made then.
set -euo pipefail
cd "$(dirname "$0")/.."

work=
DESTDIR=${DESTDIR:-} PREFIX=${PREFIX:-/opt/dicom-node} EXTRAS=${EXTRAS:-inference} PIP_ARGS=${PIP_ARGS:-}
PYTHON=${PYTHON:-}
NAME=dicom-node
ETC=/etc/$NAME DATA=/var/lib/$NAME UNIT=/etc/systemd/system/$NAME.service COMMAND=/usr/local/bin/$NAME

say() { echo "$*"; }
version() { sed -n 's/^__version__ = "\(.*\)"$/\1/p' dicom_node/__init__.py; }
has_user() { getent passwd "$NAME" >/dev/null; }
runs_here() { [[ -z $DESTDIR && -d /run/systemd/system ]]; }

require_root() {
  if [[ -z $DESTDIR && $(id -u) != 0 ]]; then
    echo "Only root can install a service; run: sudo make $1. For a tree below another folder: make $1 DESTDIR=folder" >&2
    exit 1
  fi
}

# Files of a package are its own: nothing else writes among them.
require_no_package() {
  if [[ -z $DESTDIR && $(dpkg-query --show --showformat '${db:Status-Status}' "$NAME" 2>/dev/null) == installed ]]; then
    echo "The node is installed here as a Debian package. Upgrade that, or remove it first (data and settings stay):" \
      "apt remove $NAME" >&2
    exit 1
  fi
}

make_user() {
  if [[ -n $DESTDIR ]] || has_user; then return; fi
  useradd --system --user-group --home-dir "$DATA" --no-create-home --shell /usr/sbin/nologin "$NAME"
  say "Made the user $NAME."
}

# Give a file or folder to the service's user or group, where both exist here.
give() { if [[ $(id -u) == 0 ]] && has_user; then chown "$@"; fi; }

make_folders() {
  install -d -m 755 "$DESTDIR$PREFIX" "$DESTDIR$PREFIX/releases"
  install -d -m 750 "$DESTDIR$ETC"
  install -d -m 700 "$DESTDIR$DATA"
  give root:"$NAME" "$DESTDIR$ETC"
  give "$NAME":"$NAME" "$DESTDIR$DATA"
}

# The system's own Python first: the service's user must be able to run it, and cannot look into root's home.
find_python() {
  local one
  for one in ${PYTHON:-/usr/bin/python3 python3 python3.13 python3.12 python3.11}; do
    if "$one" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      PYTHON=$one
      return
    fi
  done
  echo "Python 3.11 or newer with venv is needed and was not found. Install it (apt install python3 python3-venv)," \
    "or name it: make install PYTHON=/path/to/python" >&2
  exit 1
}

# A build in the checkout would leave files there, and pack those of earlier builds.
build_wheel() {
  mkdir "$work/sources"
  tar --create --exclude=./.git --exclude=./.venv --exclude=./build --exclude=./tests --exclude=./docs \
    --exclude=./.node --exclude='*.egg-info' --exclude=__pycache__ . |
    tar --extract --no-same-owner --directory "$work/sources"
  pip_of "$1" wheel --no-deps --wheel-dir "$work" "$work/sources"
}

pip_of() { "$1/bin/python" -m pip "$2" --quiet --disable-pip-version-check "${@:3}"; }

install_release() {
  local release=$DESTDIR$PREFIX/releases/$1 args wheel
  # A folder that an interrupted installation left is made anew.
  if [[ ! -e $release/complete ]]; then rm -rf "$release"; fi
  if [[ ! -x $release/bin/python ]]; then "$PYTHON" -m venv "$release"; fi
  say "Installing version $1 into $release ..."
  read -ra args <<<"$PIP_ARGS"
  build_wheel "$release"
  wheel=$(echo "$work"/*.whl)
  pip_of "$release" install "${args[@]}" --constraint constraints.txt "$wheel[$EXTRAS]"
  # The same version from changed sources is installed, too.
  pip_of "$release" install --force-reinstall --no-deps "$wheel"
  install -d -m 755 "$release/share/$NAME"
  install -m 644 deploy/node.toml deploy/systemd/drop-ins/*.conf LICENSE "$release/share/$NAME"
  cp -r deploy/prometheus deploy/grafana "$release/share/$NAME"
  if [[ -n $DESTDIR ]]; then name_final_place "$release"; else require_runs "$release"; fi
  touch "$release/complete"
}

# What root installs, the service's user must be able to run: its interpreter may lie where only root can look.
require_runs() {
  if ! setpriv --reuid "$NAME" --regid "$NAME" --clear-groups "$1/bin/$NAME" --version >/dev/null; then
    echo "The user $NAME cannot run $1/bin/$NAME. Its interpreter is $(readlink -f "$1/bin/python"): take one that every" \
      "user can run, such as /usr/bin/python3: make install PYTHON=/usr/bin/python3" >&2
    exit 1
  fi
}

# Programs of a virtual environment name their interpreter by its place, which is another one after the copy.
name_final_place() {
  grep -rlIF "$DESTDIR$PREFIX" "$1/bin" "$1/pyvenv.cfg" | xargs -r sed -i "s|$DESTDIR$PREFIX|$PREFIX|g"
}

# A link is replaced in one step: there is no moment without it.
point() { ln -sfn "$2" "$1.new" && mv -T "$1.new" "$1"; }

switch_to() {
  local current=$DESTDIR$PREFIX/current before=""
  if [[ -L $current ]]; then before=$(readlink "$current"); fi
  if [[ -n $before && $before != "releases/$1" ]]; then point "$DESTDIR$PREFIX/previous" "$before"; fi
  point "$current" "releases/$1"
}

install_files() {
  install -d -m 755 "$DESTDIR$(dirname "$UNIT")" "$DESTDIR$(dirname "$COMMAND")"
  sed "s|/opt/dicom-node|$PREFIX|g" deploy/systemd/$NAME.service >"$DESTDIR$UNIT"
  chmod 644 "$DESTDIR$UNIT"
  point "$DESTDIR$COMMAND" "$PREFIX/current/bin/$NAME"
  if [[ ! -e $DESTDIR$ETC/node.toml ]]; then
    install -m 640 deploy/node.toml "$DESTDIR$ETC/node.toml"
    give root:"$NAME" "$DESTDIR$ETC/node.toml"
  fi
  if runs_here; then systemctl daemon-reload; fi
}

install_node() {
  local version
  version=$(version)
  require_root install
  require_no_package
  find_python
  umask 022
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  make_user
  make_folders
  install_release "$version"
  install_files
  switch_to "$version"
  say "Installed version $version. Settings: $ETC/node.toml. Then, as root:"
  say "  systemctl enable --now $NAME     (after an upgrade: systemctl restart $NAME)"
}

uninstall_node() {
  require_root uninstall
  require_no_package
  if runs_here && [[ -e $UNIT ]]; then systemctl disable --now "$NAME" || true; fi
  rm -f "$DESTDIR$UNIT" "$DESTDIR$COMMAND"
  rm -rf "$DESTDIR$PREFIX/releases" "$DESTDIR$PREFIX/current" "$DESTDIR$PREFIX/previous"
  if [[ -d $DESTDIR$PREFIX ]]; then rmdir --ignore-fail-on-non-empty "$DESTDIR$PREFIX"; fi
  if runs_here; then systemctl daemon-reload; fi
  say "The node is removed. Kept: the data in $DESTDIR$DATA, which hold patient data, and the settings in $DESTDIR$ETC."
  say "When nobody needs them any more: rm -r $DESTDIR$DATA $DESTDIR$ETC; userdel $NAME"
}

case ${1:-} in
  install) install_node ;;
  uninstall) uninstall_node ;;
  *) echo "Say what to do: $0 install, or $0 uninstall" >&2; exit 2 ;;
esac
