// Package providers holds the entries of well-known providers, each in the page that explains it.
package providers

import (
	"embed"
	"path"
	"regexp"
	"strings"
)

//go:embed *.md
var pages embed.FS

var (
	entryBlock = regexp.MustCompile("(?s)```json\n(.*?)```")
	callBlock  = regexp.MustCompile("(?s)```http\n(.*?)```")
)

// Page is what a page of docs/providers says in code.
type Page struct {
	Name  string // of the entry, and of the file
	Entry []byte // of CONNECTORS_FILE
	Call  string // a call of the provider's API: method and address, then headers, with names of account.values in braces
}

// Pages returns every page, by name.
func Pages() ([]Page, error) {
	files, err := pages.ReadDir(".")
	if err != nil {
		return nil, err
	}
	var all []Page
	for _, f := range files {
		text, err := pages.ReadFile(f.Name())
		if err != nil {
			return nil, err
		}
		entry, call := entryBlock.FindSubmatch(text), callBlock.FindSubmatch(text)
		if entry == nil || call == nil {
			continue // the index
		}
		all = append(all, Page{strings.TrimSuffix(path.Base(f.Name()), ".md"), entry[1], strings.TrimSpace(string(call[1]))})
	}
	return all, nil
}

// Entries returns the entry of every page.
func Entries() ([][]byte, error) {
	all, err := Pages()
	var entries [][]byte
	for _, one := range all {
		entries = append(entries, one.Entry)
	}
	return entries, err
}
