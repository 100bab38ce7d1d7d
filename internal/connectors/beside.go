package connectors

import (
	"bytes"
	"database/sql/driver"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"patchbay/internal/text"
)

// This file reads what a provider says beside the token: members of the callback's query (RFC 6749 section 4.1.2 lets a provider add
// some) and of the token endpoint's answer (section 5.1). They name the company, shop or workspace that a person chose at the
// provider, which userinfo does not know, and the address at which its API is asked.
//
// A callback comes from the browser: its members are as good as the merchant's own word. They are read after state has bound the
// callback to this merchant's attempt, they are text only and never an address that is called, and a member of the token answer with
// the same name outweighs them. A merchant who writes another company into the address gets a connection of that name for
// themselves, with a token that the provider does not take for that company.

// Values are what the provider said beside the token, by the provider's own names: texts, numbers and booleans, as they came.
type Values map[string]any

// UnmarshalJSON keeps numbers as they were written.
func (v *Values) UnmarshalJSON(raw []byte) error {
	if string(raw) == "{}" { // as of most accounts
		*v = Values{}
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var members map[string]any
	if err := d.Decode(&members); err != nil {
		return err
	}
	*v = members
	return nil
}

// Value encodes values for a column of type jsonb.
func (v Values) Value() (driver.Value, error) {
	if v == nil {
		return "{}", nil
	}
	raw, err := json.Marshal(map[string]any(v))
	return string(raw), err
}

// Texts lists the values as details, by name.
func (v Values) Texts() []Detail {
	var out []Detail
	for _, key := range slices.Sorted(maps.Keys(v)) {
		out = append(out, Detail{Key: key, Value: displayText(v[key])})
	}
	return out
}

// use is what a member beside the token is good for.
type use int

const (
	useless   use = iota
	placeID       // it names the account or place and is part of the account's id
	placeName     // it is that place's name
	userID        // it names the person, and the account only if nothing else does
	useful        // programs may need it
)

// memberUses are the members that are read, in one spelling: lower case, without "_", "-" and ".". A nested member is spelled after
// the one that it is in: team.id as teamid.
var memberUses = map[string]use{
	"realmid": placeID, "realm": placeID, // QuickBooks
	"tenant": placeID, "tenantid": placeID,
	"team": placeID, "teamid": placeID, // Slack, Vercel
	"enterpriseid": placeID,
	"workspace":    placeID, "workspaceid": placeID, "workspacegid": placeID, // Notion
	"organization": placeID, "organizationid": placeID, "organizationuuid": placeID, "organisation": placeID, "organisationid": placeID,
	"org": placeID, "orgid": placeID, "orguuid": placeID,
	"company": placeID, "companyid": placeID, "companyuuid": placeID,
	"account": placeID, "accountid": placeID, "accountuuid": placeID, "accountkey": placeID,
	"location": placeID, "locationid": placeID, // GoHighLevel
	"shop": placeID, "shopid": placeID, "shopdomain": placeID, "shopurl": placeID, "shopname": placeName, // Shopify, Shopee
	"store": placeID, "storeid": placeID, "storehash": placeID, // BigCommerce
	"site": placeID, "siteid": placeID, "cloudid": placeID,
	"merchant": placeID, "merchantid": placeID, "mainaccountid": placeID, // Square, Clover
	"seller": placeID, "sellerid": placeID, "sellingpartnerid": placeID, // Amazon
	"hubid": placeID, "portalid": placeID, // HubSpot
	"instanceurl": placeID, "instanceid": placeID, // Salesforce
	"subdomain": placeID, "domainprefix": placeID, // Lightspeed
	"business": placeID, "businessid": placeID, "guildid": placeID, "stripeuserid": placeID,
	"vendorid": placeID, "partnerid": placeID, "propertyid": placeID, "restaurantid": placeID, "venueid": placeID, "practiceid": placeID,
	"projectid": placeID, "groupid": placeID, "pageid": placeID, "entityid": placeID, "branchid": placeID, "outletid": placeID,

	"teamname": placeName, "workspacename": placeName, "organizationname": placeName, "organisationname": placeName, "orgname": placeName,
	"companyname": placeName, "accountname": placeName, "locationname": placeName, "storename": placeName, "sitename": placeName,
	"merchantname": placeName, "sellername": placeName, "tenantname": placeName, "guildname": placeName, "businessname": placeName,

	"userid": userID, "uid": userID, "openid": userID, "athleteid": userID, "authoruserid": userID, "autheduserid": userID, "xuserid": userID,

	"apidomain": useful, "apiurl": useful, "apibaseurl": useful, "apiserver": useful, "apiendpoint": useful, "endpoint": useful,
	"resourceserverbaseurl": useful, "accountsserver": useful, "region": useful, "datacenter": useful, "dc": useful, "livemode": useful,
	"environment": useful, "botid": useful, "botuserid": useful, "appid": useful, "domain": useful, "hubdomain": useful,
	"enterprisename": useful, "teamdomain": useful, "country": useful, "currency": useful,
}

var memberSpelling = strings.NewReplacer("_", "", "-", "", ".", "")

func useOf(name string) use { return memberUses[memberSpelling.Replace(strings.ToLower(name))] }

const maxValue = 500 // characters of a text beside the token

// beside is what was found beside a token.
type beside struct {
	values            Values
	places, users     []string // ids, sorted by the names of their members
	placeName, secret string
}

// besideToken reads a callback's query and a token endpoint's answer, both one level deep.
func besideToken(callback url.Values, answer object, access string) beside {
	b := beside{values: Values{}, secret: access}
	ids := map[string]string{} // by the member's spelling: the answer's in place of the callback's
	for _, name := range slices.Sorted(maps.Keys(callback)) {
		if value := callback.Get(name); useOf(name) == placeID && !strings.Contains(value, "://") {
			b.read(name, value, ids)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(answer)) {
		inner := answer.object(name)
		for _, key := range slices.Sorted(maps.Keys(inner)) {
			b.read(name+"."+key, inner[key], ids)
		}
		if inner == nil {
			b.read(name, answer[name], ids)
		}
	}
	if len(b.values) == 0 {
		b.values = nil
	}
	for _, spelling := range slices.Sorted(maps.Keys(ids)) {
		switch id := ids[spelling]; {
		case memberUses[spelling] == userID:
			b.users = append(b.users, id)
		case !slices.Contains(b.places, id):
			b.places = append(b.places, id)
		}
	}
	return b
}

// read keeps a member that is worth it.
func (b *beside) read(name string, value any, ids map[string]string) {
	u := useOf(name)
	switch value.(type) {
	case string, json.Number, bool:
	default:
		u = useless
	}
	shown := displayText(value)
	if u == useless || shown == "" || utf8.RuneCountInString(shown) > maxValue || strings.ContainsAny(shown, "\n\t") || b.secret != "" && strings.Contains(shown, b.secret) {
		return
	}
	spelling := memberSpelling.Replace(strings.ToLower(name))
	switch u {
	case placeID, userID:
		id := accountID(shown)
		if id == "" {
			return
		}
		for other := range b.values { // the callback's, which the answer outweighs
			if memberSpelling.Replace(strings.ToLower(other)) == spelling {
				delete(b.values, other)
			}
		}
		ids[spelling] = id
	case placeName:
		if b.placeName == "" {
			b.placeName = accountName(shown)
		}
	}
	if s, ok := value.(string); ok {
		value = text.Clean(s)
	}
	b.values[name] = value
}

// named returns the account with what stands beside its token: the same person's access to another place is another account.
func (a Account) named(b beside) Account {
	a.Values = b.values
	places := b.places
	if a.ID == "" && len(places) == 0 {
		places = b.users
	}
	places = slices.DeleteFunc(slices.Clone(places), func(id string) bool { return id == a.ID })
	if len(places) == 0 {
		return a
	}
	a.UserID = a.ID
	if a.ID != "" {
		places = append([]string{a.ID}, places...)
	}
	a.ID = strings.Join(places, "/")
	if utf8.RuneCountInString(a.ID) > maxAccountID { // longer than an index takes
		a.ID = s256(a.ID)
	}
	if a.Name == "" || a.Name == a.UserID {
		a.Name = b.placeName
	}
	if a.Name == "" {
		a.Name = a.ID
	}
	return a
}

// Was says whether an account that is connected may be this one, connected before it was known what stands beside the token.
func (a Account) Was(before Account) bool {
	return a.UserID != "" && a.UserID == before.ID && len(before.Values) == 0
}
