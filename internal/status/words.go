package status

// Outcome is how a call to a provider ended, or one refresh of a grant. It labels events, metrics and hourly figures.
type Outcome string

// The outcomes. The first seven are those of a call, see connectors.OutcomeOf.
const (
	OK             Outcome = "ok"
	RateLimited    Outcome = "later"   // the provider asked us to wait
	Temporary      Outcome = "trouble" // no answer, or one that says nothing of the grant: worth another try
	Rejected       Outcome = "refused" // the provider rejected the grant or the credentials: only a person can restore access
	ClientRejected Outcome = "ours"    // the provider rejected our own client: the platform must act
	AccessDenied   Outcome = "denied"  // the person at the provider's consent page said no
	InvalidInput   Outcome = "input"   // what the merchant typed cannot be right

	Lost    Outcome = "lost"    // the answer to a refresh was lost, and may still come
	Busy    Outcome = "busy"    // nothing was sent: no lease could be had in time
	Skipped Outcome = "skipped" // nothing was sent: the connection has been disconnected, or does not need its merchant

	Unrenewable Outcome = "unrenewable" // nothing was sent: nothing is held that gives new access, and the token has not ended

	// Of an ask to reconnect that is one of many.
	Asked       Outcome = "asked"
	AskedBefore Outcome = "asked-before" // nothing was sent: the merchant was asked within a day
	NoPerson    Outcome = "no-person"    // nothing was sent: the merchant has no user who can be mailed
)

// RefreshOutcomes lists the outcomes of a refresh that is in the events, the good one first.
func RefreshOutcomes() []Outcome {
	return []Outcome{OK, RateLimited, Temporary, Rejected, ClientRejected, Lost}
}

// BulkOutcomes lists the outcomes of a connection in a bulk of refreshes, or of asks to reconnect.
func BulkOutcomes() []Outcome {
	return append(RefreshOutcomes(), Unrenewable, Busy, Asked, AskedBefore, NoPerson, Skipped)
}

// Health returns the health that a connection has after such an outcome, for the shape and colour in which it is shown;
// Disconnected when it says nothing.
func (o Outcome) Health() Health {
	switch o {
	case OK, Unrenewable, Asked:
		return Fine
	case Rejected, ClientRejected:
		return ActionNeeded
	case RateLimited, Temporary, Lost:
		return Retrying
	default:
		return Disconnected
	}
}

// NextRefresh is why a connection's next refresh is when it is, or why there is none.
type NextRefresh string

// The reasons.
const (
	NextRunning      NextRefresh = "running"
	NextInterrupted  NextRefresh = "interrupted"   // an answer was lost and may still come
	NextVerifying    NextRefresh = "verifying"     // the provider's webhook says that access has ended
	NextAskedToWait  NextRefresh = "asked-to-wait" // the provider answered HTTP 429
	NextFailing      NextRefresh = "failing"       // another try after a failure
	NextKeptWarm     NextRefresh = "kept-warm"     // the token is in use
	NextKeptAlive    NextRefresh = "kept-alive"    // the token is not in use
	NextUnrenewable  NextRefresh = "unrenewable"   // nothing is held that gives new access
	NextNever        NextRefresh = "never"
	NextActionNeeded NextRefresh = "action-needed" // nothing is sent until a person has acted
	NextIncident     NextRefresh = "incident"      // nothing is sent during the provider's incident
)

// NextRefreshes lists every NextRefresh.
func NextRefreshes() []NextRefresh {
	return []NextRefresh{
		NextRunning, NextInterrupted, NextVerifying, NextAskedToWait, NextFailing, NextKeptWarm, NextKeptAlive, NextUnrenewable, NextNever, NextActionNeeded, NextIncident,
	}
}

// Reason is why an incident is open.
type Reason string

// The reasons of an incident.
const (
	ReasonTemporary      Reason = "trouble"         // the provider fails for several merchants
	ReasonClientRejected Reason = "client-rejected" // it rejects several merchants at once: our own client is suspected first
	ReasonDeclared       Reason = "declared"        // an admin said so
)

// Stage is how far a flow has come.
type Stage string

// The stages of a flow. The last four are final: nothing sealed is left in them.
const (
	StageBegun      Stage = "begun"      // the browser is at the provider
	StageAnswered   Stage = "answered"   // the provider's answer came while no user was signed in
	StageExchanging Stage = "exchanging" // the answer is being exchanged
	StageChoosing   Stage = "choosing"   // access is here, sealed, and waits for the person's choice
	StageConfirming Stage = "confirming" // the merchant of a connect link is done: access waits, sealed, for the platform's word
	StageConnected  Stage = "connected"
	StageDenied     Stage = "denied"
	StageExpired    Stage = "expired"
	StageFailed     Stage = "failed"
)

// Kind returns the kind of the event that ends a flow in a final stage.
func (s Stage) Kind() Kind { return Kind("flow." + s) }

// End is why a flow ended as it did.
type End string

// The ends of a flow.
const (
	EndConnected   End = "connected"
	EndRenewed     End = "renewed"     // an existing connection got the new access
	EndReplaced    End = "replaced"    // the connection that the flow was to reconnect now is another account's
	EndKeptBoth    End = "kept-both"   // the other account was connected besides
	EndCancelled   End = "cancelled"   // the person chose not to connect
	EndExpired     End = "expired"     // the person did not come back in time
	EndInterrupted End = "interrupted" // the exchange was cut off, or its access ended before it was saved

	EndUnconfirmed End = "unconfirmed"  // the platform did not confirm in time
	EndLinkRevoked End = "link-revoked" // the platform ended its connect link

	EndDenied         End = "denied"           // the person at the provider's consent page said no
	EndInput          End = "input"            // what the merchant typed cannot be right
	EndRejected       End = "provider-refused" // the provider rejected the code or the credentials
	EndRateLimited    End = "provider-busy"
	EndTemporary      End = "provider-down"
	EndClientRejected End = "ours"
	EndNoMerchant     End = "no-merchant" // the provider answered without a merchant having taken part
	EndNoIdentity     End = "no-identity" // the provider does not say whose account it is
	EndUnverified     End = "unverified"  // the provider's ID token cannot be believed
	EndForged         End = "forged"      // the callback is not the answer to this flow
	EndOtherBrowser   End = "other-browser"
	EndOtherUser      End = "other-user"
	EndOtherProvider  End = "other-provider"
)

// Revocation is how the provider took the end of a connection.
type Revocation string

// The ways in which a provider takes it.
const (
	RevokedDone       Revocation = "done"
	RevokedFailed     Revocation = "failed"      // it was asked, and did not confirm
	RevokedLater      Revocation = "later"       // it has not confirmed yet: it is asked again
	RevokedNotAsked   Revocation = "untold"      // it could not be asked
	RevokedKept       Revocation = "kept"        // access was left as it is: another connection has the account
	RevokedNotOffered Revocation = "not-offered" // it has no way of being asked
)

// Revocations lists every Revocation.
func Revocations() []Revocation {
	return []Revocation{RevokedDone, RevokedFailed, RevokedLater, RevokedNotAsked, RevokedKept, RevokedNotOffered}
}

// Kind returns the kind of the event of such a revocation.
func (r Revocation) Kind() Kind {
	if r == RevokedDone {
		return ConnectionRevoked
	}
	return Kind("connection.revoke." + r)
}

// The notes of events of failures whose cause is known: none of them is a sign that the provider fails for several merchants.
const (
	NoteInterrupted = "interrupted"      // an answer was lost before
	NoteRestored    = "restored"         // the database was restored since the grant was refreshed
	NoteRevoked     = "revoked"          // the provider had sent a notice that this access has ended
	NoteUnsent      = "no-refresh-token" // nothing was sent: there is nothing to refresh with
	NoteSealed      = "sealed"           // nothing was sent: the grant does not open
	NoteIncident    = "incident"         // during an incident, which is why it counts for nothing
)
