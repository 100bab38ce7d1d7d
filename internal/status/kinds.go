package status

import "strings"

// Kind is what an event is about, as noun.verb.
type Kind string

// The kinds of events.
const (
	ConnectionAdded             Kind = "connection.added" // without a flow: imported, or a sample
	ConnectionConnected         Kind = "connection.connected"
	ConnectionReconnected       Kind = "connection.reconnected"
	ConnectionReplaced          Kind = "connection.replaced" // now another account's
	ConnectionDisconnected      Kind = "connection.disconnected"
	ConnectionRevoked           Kind = "connection.revoked" // the provider confirmed the end of access
	ConnectionRevokeFailed      Kind = "connection.revoke.failed"
	ConnectionRevokeLater       Kind = "connection.revoke.later"
	ConnectionRevokeNotAsked    Kind = "connection.revoke.untold"
	ConnectionRevokeKept        Kind = "connection.revoke.kept"
	ConnectionRevokeNotOffered  Kind = "connection.revoke.not-offered"
	ConnectionRevocationNoticed Kind = "connection.hook.revoked" // the provider's webhook says that access ended
	ConnectionReconnectAsked    Kind = "connection.reconnect-asked"
	ConnectionNamed             Kind = "connection.named"
	ConnectionNoted             Kind = "connection.noted" // by staff, for staff
	ConnectionNoteDeleted       Kind = "connection.note-deleted"
	ConnectionViewed            Kind = "connection.viewed"
	ConnectionsSearched         Kind = "connection.searched"
	ConnectionsExported         Kind = "connection.exported"

	FlowBegun     Kind = "flow.begun"
	FlowDenied    Kind = "flow.denied"
	FlowExpired   Kind = "flow.expired"
	FlowFailed    Kind = "flow.failed"
	FlowCancelled Kind = "flow.cancelled"

	LinkMade         Kind = "link.made"
	LinkBegun        Kind = "link.begun"      // a browser has it for itself from then on
	LinkOtherBrowser Kind = "link.foreign"    // another browser wanted to begin
	LinkRevoked      Kind = "link.revoked"    // the platform ended it
	LinkConfirming   Kind = "link.confirming" // the merchant is done: the platform is to confirm
	LinkConfirmed    Kind = "link.confirmed"

	RefreshSaved          Kind = "refresh.saved"
	RefreshLateKept       Kind = "refresh.spared"  // kept beside a newer answer that was saved first
	RefreshDropped        Kind = "refresh.dropped" // the connection was made anew or ended meanwhile
	RefreshRateLimited    Kind = "refresh.later"
	RefreshTemporary      Kind = "refresh.trouble"
	RefreshRejected       Kind = "refresh.refused"
	RefreshClientRejected Kind = "refresh.ours"
	RefreshLost           Kind = "refresh.lost"

	IncidentOpened   Kind = "incident.opened"
	IncidentDeclared Kind = "incident.declared"
	IncidentEnded    Kind = "incident.ended"
	IncidentMessage  Kind = "incident.message" // staff wrote what merchants read of it

	MerchantAdded  Kind = "merchant.added"
	MerchantErased Kind = "merchant.erased"

	UserAdded              Kind = "user.added"
	UserInvited            Kind = "user.invited"
	UserInvitationAccepted Kind = "user.invitation-accepted"
	UserPasswordLink       Kind = "user.password-link"
	UserPasswordChanged    Kind = "user.password-changed"
	UserSignedIn           Kind = "user.signed-in"
	UserSignedOut          Kind = "user.signed-out"
	UserSignInFailed       Kind = "user.sign-in-failed"
	UserPasswordRefused    Kind = "user.password-refused" // the present one, which a change of it wants, was wrong
	UserTurnedAway         Kind = "user.turned-away"      // the platform's sign-in knows them, and gives them nothing here
	UserSessionsEnded      Kind = "user.sessions-ended"
	UserLocked             Kind = "user.locked"
	UserUnlocked           Kind = "user.unlocked"
	UserRoleChanged        Kind = "user.role-changed"

	UserFactorOn     Kind = "user.second-factor-on"
	UserFactorOff    Kind = "user.second-factor-off"
	UserFactorReset  Kind = "user.second-factor-reset" // taken off by an admin or the command
	UserFactorFailed Kind = "user.second-factor-failed"
	UserRecoveryUsed Kind = "user.recovery-code-used"
	UserRecoveryMade Kind = "user.recovery-codes-made"
	UserProved       Kind = "user.proved" // proved again who they are

	UserPasskeyCloned Kind = "user.passkey-cloned" // a passkey was refused since its counter did not grow

	KeyAdded   Kind = "key.added"
	KeyRevoked Kind = "key.revoked"

	ProviderRegistered          Kind = "provider.registered"
	ProviderWebhookRegistered   Kind = "provider.hooked"
	ProviderWebhookUnregistered Kind = "provider.unhooked"
	ProviderChecked             Kind = "provider.checked"
	ProviderResumed             Kind = "provider.resumed" // a pause that it had asked for was ended

	ProviderRequestFailed    Kind = "provider.request-failed"    // it did not do what staff asked for
	ProviderCallbackRefused  Kind = "provider.callback-refused"  // it says that our callback address is not registered
	ProviderCallbackAccepted Kind = "provider.callback-accepted" // and after that, that it is

	BulkCounted Kind = "bulk.counted"
	BulkBegun   Kind = "bulk.begun"
	BulkStopped Kind = "bulk.stopped"
	BulkEnded   Kind = "bulk.ended"

	MailRetried Kind = "mail.retried"

	RowForged           Kind = "row.forged"            // a row that gives authority was met whose MAC is not valid
	DatabaseRestored    Kind = "database.restored"     // it was noticed that the database is a copy of an earlier state, or another one
	DatabaseBroughtBack Kind = "database.brought-back" // an operator said so

	WebhookAdded   Kind = "webhook.added"
	WebhookRotated Kind = "webhook.rotated"
	WebhookOn      Kind = "webhook.on"
	WebhookOff     Kind = "webhook.off"
	WebhookDeleted Kind = "webhook.deleted"
	WebhookTested  Kind = "webhook.tested"
	WebhookResent  Kind = "webhook.resent"

	EventsExported      Kind = "event.exported"
	SettingRetentionSet Kind = "setting.retention"
)

// Kinds lists every Kind save those of calls, whose names are the connectors' own.
func Kinds() []Kind {
	return []Kind{
		ConnectionAdded, ConnectionConnected, ConnectionReconnected, ConnectionReplaced, ConnectionDisconnected, ConnectionRevoked,
		ConnectionRevokeFailed, ConnectionRevokeLater, ConnectionRevokeNotAsked, ConnectionRevokeKept, ConnectionRevokeNotOffered,
		ConnectionRevocationNoticed, ConnectionReconnectAsked, ConnectionNamed, ConnectionNoted, ConnectionNoteDeleted, ConnectionViewed, ConnectionsSearched, ConnectionsExported,
		FlowBegun, FlowDenied, FlowExpired, FlowFailed, FlowCancelled,
		LinkMade, LinkBegun, LinkOtherBrowser, LinkRevoked, LinkConfirming, LinkConfirmed,
		RefreshSaved, RefreshLateKept, RefreshDropped, RefreshRateLimited, RefreshTemporary, RefreshRejected, RefreshClientRejected, RefreshLost,
		IncidentOpened, IncidentDeclared, IncidentEnded, IncidentMessage,
		MerchantAdded, MerchantErased,
		UserAdded, UserInvited, UserInvitationAccepted, UserPasswordLink, UserPasswordChanged, UserSignedIn, UserSignedOut, UserSignInFailed,
		UserPasswordRefused,
		UserTurnedAway, UserSessionsEnded, UserLocked, UserUnlocked, UserRoleChanged,
		UserFactorOn, UserFactorOff, UserFactorReset, UserFactorFailed, UserRecoveryUsed, UserRecoveryMade, UserProved, UserPasskeyCloned,
		KeyAdded, KeyRevoked,
		ProviderRegistered, ProviderWebhookRegistered, ProviderWebhookUnregistered, ProviderChecked, ProviderResumed, ProviderRequestFailed, ProviderCallbackRefused,
		ProviderCallbackAccepted,
		BulkCounted, BulkBegun, BulkStopped, BulkEnded,
		MailRetried, RowForged, DatabaseRestored, DatabaseBroughtBack, EventsExported, SettingRetentionSet,
		WebhookAdded, WebhookRotated, WebhookOn, WebhookOff, WebhookDeleted, WebhookTested, WebhookResent,
	}
}

const (
	call    = "call."
	refresh = "refresh."
)

// KindOfCall returns the kind of the event of one call to a provider, whose name is the connector's own.
func KindOfCall(name string) Kind { return Kind(call + name) }

// Call returns the name of the call that an event of this kind is about.
func (k Kind) Call() (name string, ok bool) { return strings.CutPrefix(string(k), call) }

// KindOfFailure returns the kind of the event of a refresh that brought no token.
func KindOfFailure(o Outcome) Kind { return Kind(refresh + o) }

// Refresh says whether an event of this kind is about a refresh.
func (k Kind) Refresh() bool { return strings.HasPrefix(string(k), refresh) }

// Failure returns the outcome of the refresh that an event of this kind is about, when it brought no token.
func (k Kind) Failure() (o Outcome, ok bool) {
	switch k {
	case RefreshRateLimited, RefreshTemporary, RefreshRejected, RefreshClientRejected, RefreshLost:
		return Outcome(strings.TrimPrefix(string(k), refresh)), true
	}
	return "", false
}

// Revocation says whether events of this kind hold the provider's answer to a revocation.
func (k Kind) Revocation() bool { return strings.HasPrefix(string(k), "connection.revoke") }

// Bulk says whether an event of this kind is about a bulk.
func (k Kind) Bulk() bool { return strings.HasPrefix(string(k), "bulk.") }

// OfConnection returns the kind without its noun where that is the connection, for a timeline of one.
func (k Kind) OfConnection() string { return strings.TrimPrefix(string(k), "connection.") }
