package search

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/claude-duo/duo/daemon/api"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// What a question in SQL may take.
const (
	MaxRows    = 10_000
	maxAnswer  = 16 << 20 // bytes of values
	maxValue   = 4 << 20  // bytes of a value, also of one on the way
	maxSQL     = 64 << 10 // bytes of the question
	sqlTime    = 10 * time.Second
	cardsEvery = time.Second
)

// SQL answers a question to the tables. It can change nothing. Errors are *api.Error.
func (x *Index) SQL(ctx context.Context, ask api.SQL) (api.Rows, error) {
	lag, _, err := x.ask(ctx)
	if err != nil {
		return api.Rows{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, x.within)
	defer cancel()
	if err := x.refreshCards(ctx); err != nil {
		return api.Rows{}, x.failed(ctx, err, tooSlow())
	}
	rows, err := Select(ctx, x.path, ask)
	rows.Behind = lag
	if err != nil && x.broken(err) {
		x.suspect(err)
	}
	return rows, err
}

// refreshCards brings what the tables have of cards and calls up to date.
func (x *Index) refreshCards(ctx context.Context) error {
	x.writing.Lock()
	defer x.writing.Unlock()
	if x.feeder == nil || time.Since(x.cards) < cardsEvery {
		return nil
	}
	if err := x.feeder.refresh(ctx, nil); err != nil {
		return err
	}
	x.cards = time.Now()
	return nil
}

// Select answers a question to the tables in the file at path, as it is. It can change
// nothing. Errors are *api.Error.
func Select(ctx context.Context, path string, ask api.SQL) (out api.Rows, err error) {
	switch {
	case strings.TrimSpace(ask.Query) == "":
		return out, badSQL("the question is empty")
	case len(ask.Query) > maxSQL:
		return out, badSQL("the question has %d bytes, over the limit of %d", len(ask.Query), maxSQL)
	case ask.Limit < 0 || ask.Limit > MaxRows:
		return out, badSQL("limit: want 1 to %d, got %d", MaxRows, ask.Limit)
	case ask.Limit == 0:
		ask.Limit = MaxRows
	}
	ctx, cancel := context.WithTimeout(ctx, sqlTime)
	defer cancel()
	db, err := open(path, false)
	if err != nil {
		return out, err
	}
	defer db.Close() //nolint:errcheck // nothing was written
	conn, err := db.Conn(ctx)
	if err != nil {
		return out, api.Errorf(api.Busy, "the index cannot be opened: %w", err).WithNext("duo status")
	}
	defer conn.Close() //nolint:errcheck // as above
	if err := confine(conn); err != nil {
		return out, err
	}
	if out, err = selectRows(ctx, conn, ask); err != nil {
		return out, explain(ctx, err)
	}
	return out, nil
}

// confine lets a connection read, and nothing else.
func confine(conn *sql.Conn) error {
	for id, most := range map[int]int{
		sqlite3.SQLITE_LIMIT_LENGTH: maxValue, sqlite3.SQLITE_LIMIT_SQL_LENGTH: maxSQL, sqlite3.SQLITE_LIMIT_ATTACHED: 0,
		sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100, sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 50, sqlite3.SQLITE_LIMIT_VDBE_OP: 100_000,
		sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0, sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 32, sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
	} {
		if _, err := sqlite.Limit(conn, id, most); err != nil {
			return fmt.Errorf("limit questions: %w", err)
		}
	}
	err := conn.Raw(func(driver any) error { return driver.(sqlite.AuthorizerRegisterer).RegisterAuthorizer(allow) })
	if err != nil {
		return fmt.Errorf("limit questions: %w", err)
	}
	return nil
}

// allow says what a question may do.
func allow(action sqlite.AuthorizerActionCode, first, second, _, _ string) sqlite.AuthorizerReturnCode {
	switch int(action) {
	case sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE:
		return sqlite.AuthorizerOK
	case sqlite3.SQLITE_FUNCTION:
		switch strings.ToLower(second) {
		case "load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "fts5":
			return sqlite.AuthorizerDeny
		}
		return sqlite.AuthorizerOK
	case sqlite3.SQLITE_PRAGMA:
		switch strings.ToLower(first) {
		case "table_info", "table_xinfo", "table_list", "index_list", "index_info", "data_version":
			return sqlite.AuthorizerOK
		}
	}
	return sqlite.AuthorizerDeny
}

func selectRows(ctx context.Context, conn *sql.Conn, ask api.SQL) (out api.Rows, err error) {
	rows, err := conn.QueryContext(ctx, ask.Query)
	if err != nil {
		return out, err
	}
	defer rows.Close()
	if out.Columns, err = rows.Columns(); err != nil {
		return out, err
	}
	if len(out.Columns) == 0 {
		return out, badSQL("the question asks for nothing: want a SELECT")
	}
	out.Rows = [][]any{}
	size := 0
	for rows.Next() {
		if len(out.Rows) == ask.Limit || size > maxAnswer {
			out.More = true
			return out, nil
		}
		row := make([]any, len(out.Columns))
		targets := make([]any, len(row))
		for i := range row {
			targets[i] = &row[i]
		}
		if err := rows.Scan(targets...); err != nil {
			return out, err
		}
		for i := range row {
			row[i] = value(row[i])
			size += 16
			if text, ok := row[i].(string); ok {
				size += len(text)
			}
		}
		out.Rows = append(out.Rows, row)
	}
	return out, rows.Err()
}

// value is a value as JSON can have it.
func value(v any) any {
	switch v := v.(type) {
	case []byte:
		return hex.EncodeToString(v)
	case float64:
		if math.IsInf(v, 0) {
			return fmt.Sprint(v)
		}
	case string:
		if !utf8.ValidString(v) {
			return strings.ToValidUTF8(v, "\ufffd")
		}
	}
	return v
}

const onlySelect = "only SELECT is possible: the index is made of the logs and cannot be changed here"

// explain says what is wrong with a question.
func explain(ctx context.Context, err error) error {
	var e *sqlite.Error
	switch {
	case ctx.Err() != nil:
		return tooSlow()
	case errors.As(err, new(*api.Error)):
		return err
	case !errors.As(err, &e):
		return badSQL("%w", err)
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_AUTH, sqlite3.SQLITE_READONLY:
		return badSQL(onlySelect)
	case sqlite3.SQLITE_TOOBIG:
		return badSQL("a value is over the limit of %d bytes", maxValue)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return api.Errorf(api.Busy, "the index is damaged; the daemon makes it again: %w", err).WithNext("duo up")
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN:
		return api.Errorf(api.Busy, "the index cannot be read now: %w", err).WithNext("duo status")
	}
	text := strings.TrimPrefix(e.Error(), "SQL logic error: ")
	if strings.HasPrefix(text, "cannot modify ") { // the tables are views
		return badSQL(onlySelect)
	}
	return badSQL("%s", strings.TrimSuffix(text, fmt.Sprintf(" (%d)", e.Code())))
}

func tooSlow() *api.Error {
	return api.Errorf(api.TooSlow, "the question took longer than %s: ask for less, or LIMIT it", sqlTime).WithNext("duo sql --schema")
}

func badSQL(format string, args ...any) error {
	return api.Errorf(api.BadRequest, format, args...).WithNext("duo sql --schema")
}
