package keyring

// KeyedColumns lists what KeyUses counts, as table.column.
func (k *Keyring) KeyedColumns() []string {
	all := []string{keysetPlace.Table + "." + keysetPlace.Column}
	for _, c := range sealedColumns() {
		all = append(all, c.table+"."+c.column)
	}
	for _, r := range allSigned() {
		all = append(all, r.name()+".mac")
	}
	return all
}
