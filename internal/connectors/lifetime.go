package connectors

import (
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// lifetime returns how long a token lasts from when the response was made: by the first plausible value under keys,
// else by the token's own exp, else as the provider documents it. A written time without a zone may be meant in any: if
// it is far from exp, exp is right.
func (r response) lifetime(o object, token string, documented time.Duration, keys ...string) time.Duration {
	claims := unverifiedClaims(token)
	issued, _ := parseTime(claims["iat"])
	own, known := r.duration(claims["exp"], issued)
	for _, key := range keys {
		if d, ok := r.duration(o[key], issued); ok {
			if known && zoneless(o[key]) && (d-own).Abs() > time.Hour {
				return own
			}
			return d
		}
	}
	if known {
		return own
	}
	return documented
}

// duration reads a lifetime in any wording: seconds as a number or text, "15m", "1 hour", or a time. A time is counted
// from the response's Date, else from when the token was issued, else from when we received the response.
func (r response) duration(v any, issued time.Time) (time.Duration, bool) {
	if at, ok := parseTime(v); ok {
		for _, from := range []time.Time{r.date, issued, r.receivedAt} {
			if !from.IsZero() && plausible(at.Sub(from)) {
				return at.Sub(from), true
			}
		}
		return 0, false
	}
	if n, ok := parseNumber(v); ok {
		// 1e9 seconds are 31 years: a greater number is a time, and parseTime did not take it.
		d := time.Duration(min(max(n, 0), 1e9) * float64(time.Second))
		return d, plausible(d)
	}
	s, _ := v.(string)
	d := parseDuration(s)
	return d, plausible(d)
}

// plausible says whether a lifetime is between a second and ten years.
func plausible(d time.Duration) bool { return d >= time.Second && d <= 10*366*24*time.Hour }

var (
	zonelessLayouts = []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05"} // read as UTC
	timeLayouts     = append([]string{time.RFC3339Nano, "2006-01-02 15:04:05Z07:00"}, zonelessLayouts...)
)

// parseTime reads a time: epoch seconds or milliseconds, as a number or text, or a written date.
func parseTime(v any) (time.Time, bool) {
	if n, ok := parseNumber(v); ok {
		switch {
		case n >= 1e9 && n < 1e11:
			return time.UnixMicro(int64(n * 1e6)), true
		case n >= 1e11 && n < 1e14:
			return time.UnixMilli(int64(n)), true
		}
		return time.Time{}, false
	}
	s, _ := v.(string)
	if s = strings.TrimSpace(s); s == "" {
		return time.Time{}, false
	}
	for _, layout := range timeLayouts {
		if at, err := time.Parse(layout, s); err == nil {
			return at, true
		}
	}
	at, err := http.ParseTime(s)
	return at, err == nil
}

func zoneless(v any) bool {
	s, _ := v.(string)
	return slices.ContainsFunc(zonelessLayouts, func(layout string) bool {
		_, err := time.Parse(layout, strings.TrimSpace(s))
		return err == nil
	})
}

// parseNumber reads a decimal number, also as text.
func parseNumber(v any) (float64, bool) {
	var s string
	switch v := v.(type) {
	case json.Number:
		s = v.String()
	case string:
		s = strings.TrimSpace(v)
	}
	if s == "" || strings.ContainsAny(s, "xX_pPiInN") {
		return 0, false
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil && !math.IsInf(n, 0) && !math.IsNaN(n)
}

// parseDuration reads "15m", "1h30m", "1d" and "2 hours". It returns 0 for anything else.
func parseDuration(s string) time.Duration {
	if s = strings.ToLower(strings.TrimSpace(s)); s == "" {
		return 0
	}
	if d, err := time.ParseDuration(s); err == nil {
		return d
	}
	end := strings.IndexFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if end <= 0 {
		return 0
	}
	n, err := strconv.ParseFloat(s[:end], 64)
	if err != nil || n > 1e9 {
		return 0
	}
	var unit time.Duration
	switch strings.TrimSuffix(strings.TrimSpace(s[end:]), "s") {
	case "", "sec", "second":
		unit = time.Second
	case "m", "min", "minute":
		unit = time.Minute
	case "h", "hr", "hour":
		unit = time.Hour
	case "d", "day":
		unit = 24 * time.Hour
	case "w", "week":
		unit = 7 * 24 * time.Hour
	}
	if d := n * float64(unit); d < math.MaxInt64/2 {
		return time.Duration(d)
	}
	return 0
}
