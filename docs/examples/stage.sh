# The stage of the examples with attended agents: a home of its own, which goes away at
# the end. Read by them with: . stage.sh

duo=${DUO:-$(pwd)/bin/duo}
stage=$(mktemp -d "${TMPDIR:-/tmp}/duo-stage.XXXXXX")
DUO_HOME=$stage/home
export DUO_HOME
unset DUO_AS DUO_CONVERSATION DUO_FORMAT DUO_HOPS CLAUDE_CODE_SESSION_ID CODEX_THREAD_ID GEMINI_SESSION_ID DUO_SESSION
PATH=$(dirname "$duo"):$PATH
attendants=
leave_stage() {
	for pid in $attendants; do kill "$pid" 2>/dev/null || true; done
	for pid in $attendants; do wait "$pid" 2>/dev/null || true; done
	"$duo" down >/dev/null 2>&1 || true
	rm -rf "$stage"
}
trap leave_stage EXIT
trap 'exit 1' HUP INT TERM

say() { printf '\n== %s\n' "$*"; }

fail() {
	printf 'the example fails: %s\n' "$*" >&2
	cat "$stage"/*.said >&2 2>/dev/null || true
	exit 1
}

# soon COMMAND... waits until a command succeeds, for a minute at most.
soon() {
	tries=0
	until "$@"; do
		tries=$((tries + 1))
		[ "$tries" -lt 600 ] || return 1
		sleep 0.1
	done
}

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

# ref LETTER prints the first reference of that letter in a text: c9f3a, r77b2
ref() { sed -n "s/^\(.*[^0-9a-z]\)\{0,1\}\($1[0-9a-f]\{4,\}\)\([^0-9a-f].*\)\{0,1\}$/\2/p" | head -n 1; }
