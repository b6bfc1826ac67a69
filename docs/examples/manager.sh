#!/bin/sh
# A manager gets a task, finds for each part of it an agent that can do it, delegates, and
# gathers the results. It finds them by what they can do, not by name.
#
# All are scripts; for a model in the manager's place, let it run the same commands:
#   claude -p "Do the task. Use 'duo find --capability C' and 'duo message NAME TEXT --wait'." --allowedTools 'Bash(duo:*)'
# Run it with: make examples
set -eu
cd "$(dirname "$0")/../.."
. docs/examples/stage.sh

{
	sed -n '/^ref()/p' docs/examples/stage.sh
	cat <<'END'
# Each line of the task is a capability and what to do: "math: 6 * 7".
sed -n 's/^| //p' | while IFS= read -r line; do
	capability=${line%%: *} job=${line#*: }
	if [ "$capability" = poetry ]; then # the best one that is there, by a call
		called=$(duo match --capability "$capability" --topic "A job" --wait=60s -- "$job") || { echo "$job: nobody does $capability"; continue; }
		conversation=$(printf '%s\n' "$called" | ref c)
		answer=$(duo wait --conversation "$conversation" --for message --timeout 60s | sed -n 's/^| //p')
		duo leave "$conversation" >/dev/null
	else
		who=$(duo find --capability "$capability" | awk '$2 == "available" { print $1; exit }')
		[ -n "$who" ] || { echo "$job: nobody does $capability"; continue; }
		answer=$(duo message "$who" --wait=60s -- "$job" | sed -n 's/^| //p')
	fi
	echo "$job: $answer"
done
END
} >"$stage/manage.sh"
cat >"$stage/math.sh" <<'END'
# Only what is a sum is worked out: it is somebody else's text.
job=$(sed -n 's/^| //p')
case $job in
*[!0-9\ +*-]*) echo "that is no sum" ;;
*) echo "$(($job))" ;;
esac
END

attend Euler math "sh $stage/math.sh"
attend Sappho poetry,text "echo 'roses are red'"
attend Echo text "sed -n 's/^| //p' | tr a-z A-Z"
attend Boss management "sh $stage/manage.sh"
duo register Client >/dev/null
duo presence busy --as Echo >/dev/null # so that of those who do text Sappho is the one that is there

say "the specialists, and who manages them"
duo who

say "a client gives the manager a task"
duo message Boss --as Client --topic "A task" --wait=90s "math: 6 * 7
poetry: a line
cooking: a soup
math: x = y
math: 1 + 2 + 3" | tee "$stage/result"

for line in '6 \* 7: 42' 'a line: roses are red' 'a soup: nobody does cooking' 'x = y: that is no sum' '1 + 2 + 3: 6'; do
	grep -q "^| $line\$" "$stage/result" || fail "the result has not: $line"
done

say "what the manager said to whom"
for conversation in $(duo list --as Boss | sed -n 's/^\(c[0-9a-f]*\).*/\1/p'); do
	duo log "$conversation" --as Boss
done | tee "$stage/transcript"
grep -q 'Boss' "$stage/transcript" || fail "there is no transcript"
say "done: five jobs, four results"
