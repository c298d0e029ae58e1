#!/usr/bin/env bash
# Make a Debian package of this checkout; run by `make deb`. Debhelper does it, by deploy/debian, in a copy of the sources:
# it wants its folder at their top, and leaves files there.
#
#   EXTRAS, PIP_ARGS, PYTHON   as for `make install`       SBOM_PYTHON   an interpreter that has the tools of the checkout
#   OUT                        where the package is laid   STAGE, VERSION   a tree that is there already, and its version
#   COMPRESSION                arguments of dpkg-deb
set -euo pipefail
cd "$(dirname "$0")/.."

NAME=dicom-node OUT=${OUT:-build}
# That of the distribution, by its versioned name: the package depends on exactly this one.
export PYTHON=${PYTHON:-$(readlink -f /usr/bin/python3)} SBOM_PYTHON=${SBOM_PYTHON:-python3}
version=${VERSION:-$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' dicom_node/__init__.py)}

require_tools() {
  if ! command -v dpkg-buildpackage dh >/dev/null; then
    echo "The tools that make a Debian package are missing. Install them: apt install dpkg-dev debhelper" >&2
    exit 1
  fi
}

copy_sources() {
  mkdir "$1"
  tar --create --exclude=./.git --exclude=./.venv --exclude=./build --exclude=./tests --exclude=./.node \
    --exclude='*.egg-info' --exclude=__pycache__ . | tar --extract --no-same-owner --directory "$1"
  cp --recursive deploy/debian "$1/debian"
}

# The version stands in one place only, and the day is that of the last change: the same sources make the same package.
write_changelog() {
  local day maintainer
  day=$(git log -1 --format=%cD 2>/dev/null || date --rfc-email --reference=CHANGELOG.md)
  maintainer=$(sed -n 's/^Maintainer: //p' deploy/debian/control)
  printf '%s (%s) stable; urgency=medium\n\n  * What changed: /usr/share/doc/%s/changelog.gz.\n\n -- %s  %s\n' \
    "$NAME" "$version" "$NAME" "$maintainer" "$day" >"$1/debian/changelog"
}

build() {
  if ! (cd "$1" && dpkg-buildpackage --build=binary --no-sign) >"$1.log" 2>&1; then
    cat "$1.log" >&2
    exit 1
  fi
}

require_tools
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
copy_sources "$work/$NAME"
write_changelog "$work/$NAME"
build "$work/$NAME"
mkdir -p "$OUT"
for made in "$work/${NAME}_${version}"_*.deb; do
  mv "$made" "$OUT"
  echo "Made: $OUT/$(basename "$made")"
done
