# What the demos and the examples are told with: . scene.sh

unset DUO_AS DUO_CONVERSATION DUO_FORMAT DUO_HOPS CLAUDE_CODE_SESSION_ID CODEX_THREAD_ID GEMINI_SESSION_ID DUO_SESSION

say() { printf '\n== %s\n' "$*"; }

fail() {
	printf '%s fails: %s\n' "$0" "$*" >&2
	exit 1
}

# soon COMMAND... waits until a command succeeds, for a minute at most.
soon() {
	tries=0
	until "$@" >/dev/null 2>&1; do
		tries=$((tries + 1))
		[ "$tries" -lt 1200 ] || return 1
		sleep 0.05
	done
}

# ref LETTER prints the first reference of that letter in a text: c9f3a, r77b2
ref() { sed -n "s/^\(.*[^0-9a-z]\)\{0,1\}\($1[0-9a-f]\{4,\}\)\([^0-9a-f].*\)\{0,1\}$/\2/p" | head -n 1; }
