# The stage of the examples with attended agents: a home of its own, which goes away at
# the end. Read by them with: . docs/examples/stage.sh

. docs/examples/scene.sh
duo=${DUO:-$(pwd)/bin/duo}
stage=$(mktemp -d "${TMPDIR:-/tmp}/duo-stage.XXXXXX")
DUO_HOME=$stage/home
export DUO_HOME
PATH=$(dirname "$duo"):$PATH
attendants=
leave_stage() {
	[ $? -eq 0 ] || cat "$stage"/*.said >&2 2>/dev/null || true
	for pid in $attendants; do kill "$pid" 2>/dev/null || true; done
	for pid in $attendants; do wait "$pid" 2>/dev/null || true; done
	"$duo" down >/dev/null 2>&1 || true
	rm -rf "$stage"
}
trap leave_stage EXIT
trap 'exit 1' HUP INT TERM

# attend NAME CAPABILITIES COMMAND [FLAG...] registers an agent and lets a command answer for it.
attend() {
	name=$1 capabilities=$2 command=$3
	shift 3
	duo register "$name" --capabilities "$capabilities" >/dev/null
	duo attend "$name" --exec "$command" "$@" 2>"$stage/$name.said" &
	attendants="$attendants $!"
	soon grep -q "$name is attended" "$stage/$name.said" || fail "$name is not attended"
}

# body prints what others wrote, without the frame around it.
body() { sed -n 's/^| //p'; }
