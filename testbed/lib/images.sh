# shellcheck shell=bash
# Image archives, the node's image store and its registry.

# make_image ARCHIVE REFERENCE FOLDER CONFIG-JSON: a docker archive with one layer, the same bytes each time
make_image() {
  local archive=$1 reference=$2 folder=$3 config=$4 work layer
  work=$(mktemp -d "$STATE/image.XXXXXX")
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$folder" -cf "$work/layer.tar" .
  layer=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
  printf '{"architecture":"%s","os":"linux","config":%s,"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$(go_architecture)" "$config" "$layer" >"$work/config.json"
  printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$reference" >"$work/manifest.json"
  tar -C "$work" -cf "$archive.part" manifest.json config.json layer.tar
  mv "$archive.part" "$archive"
  rm -rf "$work"
}

go_architecture() {
  case $(uname -m) in
    aarch64) echo arm64 ;;
    *) echo amd64 ;;
  esac
}

# own_image COMPONENT CONFIG-JSON: an image of one static binary of the cache, in the node's store
own_image() {
  local component=$1 config=$2 reference folder archive
  reference=$(own_reference "$component")
  [ -z "$(containerd_ctl images ls -q "name==$reference")" ] || return 0
  folder=$(mktemp -d "$STATE/image.XXXXXX")
  archive=$STATE/$component.tar
  cp "$(component_dir "$component")/$component" "$folder/$component"
  chmod 755 "$folder" "$folder/$component"
  make_image "$archive" "$reference" "$folder" "$config"
  containerd_ctl images import --no-unpack=false "$archive" >/dev/null || die "importing $reference failed" "$LOG_DIR/containerd.log"
  rm -rf "$folder" "$archive"
}

# own_reference COMPONENT: the tag names the content, so that a new binary is a new image
own_reference() {
  local key
  key=$(component_key "$1")
  echo "localhost/$1:${key:0:16}"
}

# archive_transport ARCHIVE: how skopeo reads it
archive_transport() {
  [ -e "$1" ] || die "there is no archive $1" "give the path of a docker or OCI archive"
  if [ -d "$1" ]; then
    [ -e "$1/oci-layout" ] || die "$1 is a folder but no OCI image layout" "give a docker or OCI archive"
    echo oci
    return
  fi
  local members
  members=$(tar -tf "$1" 2>/dev/null) || die "$1 is no tar archive" "give a docker or OCI archive"
  case $'\n'"$members"$'\n' in
    *$'\n'oci-layout$'\n'* | *$'\n'./oci-layout$'\n'*) echo oci-archive ;;
    *$'\n'manifest.json$'\n'*) echo docker-archive ;;
    *) die "$1 is neither a docker archive (manifest.json) nor an OCI archive (oci-layout)" "save the image again" ;;
  esac
}

# image_source SOURCE: with its transport; a reference that has one already (containers-storage:...) stays
image_source() {
  case $1 in
    oci:* | oci-archive:* | docker-archive:* | containers-storage:* | dir:*) echo "$1" ;;
    *) local transport; transport=$(archive_transport "$1") && echo "$transport:$1" ;;
  esac
}

command_load_image() {
  archive_transport "$1" >/dev/null
  require_root
  require_running
  containerd_ctl images import "$1" || die "containerd could not import $1" "see $LOG_DIR/containerd.log"
}

command_push() {
  local source name=$2 repository digests digest
  [[ $name =~ ^[a-z0-9]+([._/-][a-z0-9]+)*(:[A-Za-z0-9_.-]+)?$ ]] ||
    misuse "'$name' is no image name: lower-case letters, digits, '.', '_', '-', '/', and a tag after ':' if wanted"
  source=$(image_source "$1")
  require_root
  require_running
  repository=$REGISTRY/$REGISTRY_PROJECT/${name%%:*}
  [[ $name == *:* ]] || name=$name:latest
  digests=$(mktemp "$STATE/digest.XXXXXX")
  in_node skopeo --insecure-policy copy --quiet --dest-tls-verify=false --digestfile "$digests" \
    "$source" "docker://$REGISTRY/$REGISTRY_PROJECT/$name" >&2 ||
    { rm -f "$digests"; die "pushing $1 failed" "is the registry up? testbed status"; }
  digest=$(cat "$digests")
  rm -f "$digests"
  echo "$repository@$digest"
}
