#!/bin/sh
# Two agents debate, and a third one sums it up. The turn limit of the conversation ends the
# debate; each side sees in DUO_TURNS_LEFT when its last word comes.
#
# All are scripts. For models put into the place of argue.sh:
#   llm -s "You argue for tabs. Answer in two sentences. $DUO_TURNS_LEFT turns are left."
# Run it with: make examples
set -eu
cd "$(dirname "$0")/../.."
. docs/examples/stage.sh

cat >"$stage/argue.sh" <<'END'
# argue.sh SIDE: answers what it has read with the next argument of its side.
side=$1
last=$(sed -n 's/^| //p' | tail -n 1)
if [ "${DUO_TURNS_LEFT:-9}" -le 2 ]; then
	echo "In the end: $side."
	exit
fi
used=$(duo log "$DUO_CONVERSATION" | grep -c "^| $side: ") || true
case $side$used in
Tabs0) why="everyone sets the width that suits them" ;;
Tabs*) why="one character says one level" ;;
Spaces0) why="it looks the same everywhere" ;;
*) why="columns stay where they are put" ;;
esac
echo "$side: $why. You said: ${last%%. You said:*}."
END
cat >"$stage/sum.sh" <<'END'
# Sums up a transcript, which comes as the body of a message.
text=$(sed -n 's/^| //p')
count() { printf '%s\n' "$text" | grep -c "^| $1: " || true; }
close() { printf '%s\n' "$text" | sed -n "s/^| In the end: \($1\)\.$/\1/p"; }
echo "Tabs has $(count Tabs) arguments, Spaces has $(count Spaces)."
echo "Last words: $(close Tabs) and $(close Spaces). They do not agree."
END

attend Tabs debate "sh $stage/argue.sh Tabs"
attend Spaces debate "sh $stage/argue.sh Spaces"
attend Sage summary "sh $stage/sum.sh"

say "Tabs opens the debate, six turns long"
duo create --as Tabs --topic "Tabs or spaces" --invite Spaces --turn-limit 6 >"$stage/opened"
conversation=$(ref c <"$stage/opened")
duo send --as Tabs --to "$conversation" "Tabs: nobody has to count."
is_over() { [ "$(duo log "$conversation" --as Tabs | grep -c '^c[0-9a-f]*\.[0-9]* from ')" = 6 ]; }
soon is_over || fail "the debate does not come to its end"
duo log "$conversation" --as Tabs | tee "$stage/transcript"

say "Sage sums it up"
duo message Sage --as Tabs --topic "Sum it up" --body-file "$stage/transcript" --wait=60s | tee "$stage/summary"

[ "$(grep -c '^c[0-9a-f]*\.[0-9]* from Tabs' "$stage/transcript")" = 3 ] || fail "Tabs has not spoken three times"
grep -q '^| In the end: Tabs\.$' "$stage/transcript" || fail "Tabs has no last word"
grep -q '^| In the end: Spaces\.$' "$stage/transcript" || fail "Spaces has no last word"
grep -q '^| Tabs has 2 arguments, Spaces has 2\.$' "$stage/summary" || fail "the summary is not right"
say "done: six turns and a summary"
