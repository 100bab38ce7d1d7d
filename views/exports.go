package views

import (
	"context"
)

// exportHeads are the texts above the columns of a workbook, by the column's name in CSV. A detail of an account has its own label.
var exportHeads = map[string]string{
	"merchant": "filter.merchant", "merchant_external_id": "field.external_id", "provider": "filter.provider", "environment": "filter.environment",
	"nickname": "field.nickname", "account_name": "export.account-name", "account_id": "connection.account-id", "health": "filter.health", "who_must_act": "filter.who",
	"problem": "filter.problem", "since": "export.since", "connected_at": "connection.connected-at", "disconnected_at": "export.disconnected-at",
	"refreshed_at": "connection.refreshed-at", "used_at": "filter.used", "reconnect_by": "export.reconnect-by", "id": "admin_connection.id",
	"merchant_id": "admin_merchants.id",

	"at": "admin_connection.when", "kind": "filter.kind", "actor": "export.actor", "actor_id": "export.actor-id", "actor_name": "filter.actor",
	"connection_id": "admin_connection.id", "account": "filter.account", "flow": "export.flow", "class": "filter.class", "status": "admin_connection.status",
	"code": "admin_connection.code", "milliseconds": "export.milliseconds", "reference": "export.reference", "address": "admin_events.where", "request": "export.request", "note": "export.note",
}

// ExportTitle returns the name of a workbook's sheet: of "connections" or "events".
func ExportTitle(ctx context.Context, name string) string {
	if name == "events" {
		return T(ctx, "admin_events.title")
	}
	return T(ctx, "admin_connections.title")
}

// ExportHead returns the text above a column of a workbook. times says that it holds times; their zone is then named.
func ExportHead(ctx context.Context, column string, times bool) string {
	head := detailLabel(ctx, column)
	if key, ok := exportHeads[column]; ok {
		head = T(ctx, key)
	}
	if !times {
		return head
	}
	zone := "UTC"
	if l := localeOf(ctx); l.zone != nil {
		zone = zoneShown(l.zone.String())
	}
	return head + " (" + zone + ")"
}

// ExportWord returns what a workbook has for what CSV has in a column: words for a code, and any other text as it is.
func ExportWord(ctx context.Context, column, text string) string {
	prefixes := map[string]string{
		"health": "healths.", "who_must_act": "whos.", "problem": "problems.", "environment": "environment.", "class": "class.",
	}
	prefix, ok := prefixes[column]
	switch {
	case text == "":
		return ""
	case ok:
		return wordFor(ctx, prefix, text)
	case column == "kind":
		return kindText(ctx, text)
	case column == "actor" && has(ctx, "role."+text):
		return T(ctx, "role."+text)
	case column == "actor" && text == "system":
		return brandName(ctx)
	case column == "actor" && text == "provider":
		return T(ctx, "filter.provider")
	case column == "actor" && text == "key":
		return T(ctx, "admin_keys.key")
	}
	return text
}
