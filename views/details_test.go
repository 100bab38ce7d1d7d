package views

import (
	"context"
	"testing"

	"patchbay/internal/connectors"
)

func TestDetailsAreSaidInWords(t *testing.T) {
	for _, c := range []struct{ tag, key, value, want string }{
		{"en", "country", "KH", "Cambodia"},
		{"fr", "country", "KH", "Cambodge"},
		{"km", "country", "KH", "កម្ពុជា"},
		{"en", "country", "Cambodia", "Cambodia"},
		{"en", "city", "KH", "KH"},
		{"en", "scopes", `["orders.read","refunds"]`, "orders.read, refunds"},
		{"en", "is_test", "true", "yes"},
	} {
		ctx := WithLocale(context.Background(), c.tag, storyNow, nil)
		if got := detailText(ctx, connectors.Detail{Key: c.key, Value: c.value}); got != c.want {
			t.Errorf("%s %s in %s: %q, want %q", c.key, c.value, c.tag, got, c.want)
		}
	}
}

func TestAMerchantReadsNoStructuresAndOneNameOfAnID(t *testing.T) {
	ctx := WithLocale(context.Background(), "en", storyNow, nil)
	a := Account{Account: connectors.Account{ID: "KHUID00001234", Details: []connectors.Detail{{Key: "endpoint_id", Value: "KHUID00001234"}, {Key: "form_values", Value: `{"a":1}`}, {Key: "occupation_id", Value: "[1,2]"}, {Key: "scopes", Value: `["orders"]`}}}}
	if got := len(a.detailsFor(false)); got != 2 {
		t.Errorf("a merchant reads %d details", got)
	}
	if got := len(a.detailsFor(true)); got != 4 {
		t.Errorf("staff read %d details", got)
	}
	if got := a.idLabel(ctx); got != "CamInvoice ID" {
		t.Errorf("the id is called %q", got)
	}
	if got := (Account{Account: connectors.Account{ID: "x"}}).idLabel(ctx); got != "Account ID" {
		t.Errorf("an id without a name is called %q", got)
	}
}
