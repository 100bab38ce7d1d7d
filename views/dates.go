package views

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

var months = map[string][12]string{
	"en": {"January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"},
	"fr": {"janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre", "décembre"},
	"km": {"មករា", "កុម្ភៈ", "មីនា", "មេសា", "ឧសភា", "មិថុនា", "កក្កដា", "សីហា", "កញ្ញា", "តុលា", "វិច្ឆិកា", "ធ្នូ"},
}

// Ago writes t as people say it: "today 14:05", "in 6 days", "3 November". The zero time is a dash.
func Ago(ctx context.Context, t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	l := localeOf(ctx)
	t, now := l.at(t), l.at(l.now)
	days := dayNumber(t) - dayNumber(now)
	clock := l.clock(t)
	switch {
	case days == 0:
		return T(ctx, "date.today", "Time", clock)
	case days == -1:
		return T(ctx, "date.yesterday", "Time", clock)
	case days == 1:
		return T(ctx, "date.tomorrow", "Time", clock)
	case days > 1 && days <= 14:
		return T(ctx, "date.in-days", "Count", days)
	case days < -1 && days >= -6:
		return T(ctx, "date.days-ago", "Count", -days)
	case t.Year() == now.Year():
		return l.dayMonth(t)
	default:
		return l.dayMonth(t) + " " + strconv.Itoa(t.Year())
	}
}

// minutesLeft returns how many minutes there are until t, at least one.
func minutesLeft(ctx context.Context, t time.Time) int {
	return max(1, int(t.Sub(localeOf(ctx).now).Minutes()))
}

// since returns when something began, with its time of day, and how long ago that is, where the first does not say so.
func since(ctx context.Context, t time.Time) (began, ago string) {
	l := localeOf(ctx)
	days := dayNumber(l.at(l.now)) - dayNumber(l.at(t))
	if days < 2 {
		return Ago(ctx, t), ""
	}
	return Moment(ctx, t), " (" + T(ctx, "date.days-ago", "Count", days) + ")"
}

// Exact writes t to the second and with its zone, for the title of a <time> and for support.
func Exact(ctx context.Context, t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	l := localeOf(ctx)
	t = l.at(t)
	zone, offset := t.Zone()
	if strings.HasPrefix(zone, "+") || strings.HasPrefix(zone, "-") {
		zone = fmt.Sprintf("UTC%+d", offset/3600) // zones without letters of their own, such as Asia/Phnom_Penh
	}
	return l.dayMonth(t) + " " + t.Format("2006 15:04:05 ") + zone
}

// Day writes the date of t.
func Day(ctx context.Context, t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	l := localeOf(ctx)
	t = l.at(t)
	return l.dayMonth(t) + " " + strconv.Itoa(t.Year())
}

// Moment writes the date and the time of day of t. If the context has no zone, as in mails, it adds "UTC".
func Moment(ctx context.Context, t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return Day(ctx, t) + ", " + Clock(ctx, t)
}

// UTCDay writes the date of t in UTC, for what counts in days or months of UTC.
func UTCDay(ctx context.Context, t time.Time) string {
	t = t.UTC()
	return localeOf(ctx).dayMonth(t) + " " + strconv.Itoa(t.Year())
}

// Clock writes the time of day of t.
func Clock(ctx context.Context, t time.Time) string {
	l := localeOf(ctx)
	return l.clock(l.at(t))
}

// Number writes n with the language's separators.
func Number(ctx context.Context, n int64) string { return formatNumber(localeOf(ctx).tag, n) }

// Took writes a duration as "240 ms" or "1.2 s".
func Took(ctx context.Context, d time.Duration) string {
	if d < time.Second {
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	}
	s := strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	if localeOf(ctx).tag == "fr" {
		s = strings.Replace(s, ".", ",", 1)
	}
	return s
}

// Zone returns the time zone of an IANA name, from the cookie "tz" or an address; nil if there is none.
func Zone(name string) *time.Location {
	if len(name) > 40 || !zoneName.MatchString(name) {
		return nil
	}
	if z, ok := zones.Load(name); ok {
		return z.(*time.Location)
	}
	z, err := time.LoadLocation(name)
	if err != nil || z == time.Local {
		return nil
	}
	zones.Store(name, z)
	return z
}

// zones caches the zones that were read from disk. zoneName keeps it small: without it "Asia//Phnom_Penh",
// "Asia/./Phnom_Penh" and so on would be zones too.
var (
	zones    sync.Map
	zoneName = regexp.MustCompile(`^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$`)
)

func (l *locale) at(t time.Time) time.Time {
	if l.zone == nil {
		return t.UTC()
	}
	return t.In(l.zone)
}

func (l *locale) clock(t time.Time) string {
	s := t.Format("15:04")
	if l.tag == "fr" {
		s = t.Format("15\u00a0h\u00a004") // no-break spaces
	}
	if l.zone == nil {
		s += " UTC"
	}
	return s
}

func (l *locale) dayMonth(t time.Time) string {
	day := strconv.Itoa(t.Day())
	if l.tag == "fr" && t.Day() == 1 {
		day = "1er"
	}
	return day + " " + months[l.tag][t.Month()-1]
}

func dayNumber(t time.Time) int {
	y, m, d := t.Date()
	return int(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86400)
}

func formatNumber(tag string, n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "−", s[1:]
	}
	separator := ","
	if tag == "fr" {
		separator = "\u202f" // narrow no-break space
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + separator + s[i:]
	}
	return sign + s
}
