#!/bin/sh
# Two agents talk about a file of this repository. Scout has nothing but the shell:
# it writes files into its outbox and reads files from its inbox. Atlas uses duo.
# Run it with: make demo
set -eu

cd "$(dirname "$0")/../.."
duo=$PWD/bin/duo
file=docs/envelope.md
DUO_HOME=$(mktemp -d "${TMPDIR:-/tmp}/duo-demo.XXXXXX")
export DUO_HOME
unset DUO_AS DUO_CONVERSATION CLAUDE_CODE_SESSION_ID CODEX_THREAD_ID GEMINI_SESSION_ID DUO_SESSION
trap '"$duo" down >/dev/null 2>&1 || true' EXIT

say() { printf '\n== %s\n' "$*"; }

# until_there PATTERN prints the file that a pattern names, as soon as there is one.
until_there() {
	tries=0
	while :; do
		for found in $1; do
			[ -f "$found" ] && echo "$found" && return
		done
		tries=$((tries + 1))
		[ "$tries" -lt 400 ] || { echo "nothing at $1" >&2; exit 1; }
		sleep 0.05
	done
}

say "the host starts"
"$duo" up

say "Atlas registers with the command, Scout with mkdir and a file"
"$duo" register Atlas --capabilities reading --description "reads files and quotes them"
scout=$DUO_HOME/agents/scout
mkdir -p "$scout/inbox/tmp" "$scout/inbox/new" "$scout/inbox/cur" \
	"$scout/outbox/tmp" "$scout/outbox/new" "$scout/outbox/sent" "$scout/outbox/failed"
echo '{"name":"Scout","description":"has only a shell"}' >"$scout/agent.json"

say "Scout asks: a text file, renamed into its outbox"
cat >"$scout/outbox/tmp/ask.md" <<END
To: Atlas
Topic: What $file says

What does $file say of the field \`after\`? Please quote the line.
END
mv "$scout/outbox/tmp/ask.md" "$scout/outbox/new/ask.md"
until_there "$scout/outbox/sent/ask.md" >/dev/null
sed -n '1,/^$/p' "$scout/outbox/sent/ask.md"

say "Atlas sees it, reads it, and answers with what the file says"
"$duo" --as Atlas inbox
"$duo" --as Atlas read
quote=$(grep -m 1 '^| `after`' "$file")
printf '%s\n' "$quote" | "$duo" --as Atlas send -

say "Scout finds the answer in its inbox, and marks it seen by moving it"
answer=$(until_there "$scout/inbox/new/*.json")
cat "$answer"
conversation=$(sed 's/.*"conversation":"\([^"]*\)".*/\1/' "$answer")
seq=$(sed 's/{"seq":\([0-9]*\),.*/\1/' "$answer")
mv "$answer" "$scout/inbox/cur/"

say "Scout looks the quote up in the file itself, and says what it found"
words=$(sed 's/.*"content":"\([^"\\]*\).*/\1/' "$scout/inbox/cur/$(basename "$answer")")
if grep -qF "$words" "$file"; then
	verdict="Thank you. That is line $(grep -nF "$words" "$file" | cut -d: -f1) of $(wc -l <"$file" | tr -d ' ')."
else
	verdict="I do not find that in the file."
fi
echo "$verdict"
printf '{"conversation":"%s","replyTo":%s,"content":"%s"}\n' "$conversation" "$seq" "$verdict" >"$scout/outbox/tmp/thanks.json"
mv "$scout/outbox/tmp/thanks.json" "$scout/outbox/new/thanks.json"
until_there "$scout/outbox/sent/thanks.json" >/dev/null

say "Atlas reads it, and leaves"
"$duo" --as Atlas read
"$duo" --as Atlas leave "$conversation" "Glad to help."

say "what was said, from the log file"
"$duo" --as Atlas log "$conversation"

say "where it lies"
"$duo" --as Atlas receipts "$conversation.$seq"
echo "home: $DUO_HOME"
(cd "$DUO_HOME" && find . -type f -o -type l | grep -v '/run/' | sort)
echo
echo "the log: cat $DUO_HOME/conversations/$conversation.jsonl"
echo "remove it all: rm -r $DUO_HOME"
