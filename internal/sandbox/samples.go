package sandbox

// Business is a member of the imitated CamInvoice, with every documented field of business_info.
type Business struct {
	EndpointID          string `json:"endpoint_id"`
	MocID               string `json:"moc_id"`
	CompanyNameEN       string `json:"company_name_en"`
	CompanyNameKH       string `json:"company_name_kh"`
	TIN                 string `json:"tin"`
	DateOfIncorporation string `json:"date_of_incorporation"`
	BusinessType        string `json:"business_type"`
	City                string `json:"city"`
	Country             string `json:"country"`
	PhoneNumber         string `json:"phone_number"`
	Email               string `json:"email"`
}

// SampleBusinesses are the businesses on CamInvoice's consent page.
func SampleBusinesses() []Business {
	return []Business{
		{
			EndpointID: "KHUID00001234", MocID: "1234567890", CompanyNameEN: "CH168 Co., Ltd", CompanyNameKH: "ក្រុមហ៊ុនស៊ីអេច១៦៨",
			TIN: "1234567890", DateOfIncorporation: "2016-08-01", BusinessType: "Private Limited Company", City: "Phnom Penh",
			Country: "KH", PhoneNumber: "+85512345678", Email: "accounts@ch168.example",
		},
		{
			EndpointID: "KHUID00005678", MocID: "00045217", CompanyNameEN: "Mekong Rice Trading Co., Ltd", CompanyNameKH: "ក្រុមហ៊ុនពាណិជ្ជកម្មអង្ករមេគង្គ",
			TIN: "K001-3333333", DateOfIncorporation: "2009-03-17", BusinessType: "Private Limited Company", City: "Battambang",
			Country: "KH", PhoneNumber: "+85553952211", Email: "finance@mekongrice.example",
		},
		{
			EndpointID: "KHUID00009012", MocID: "00078340", CompanyNameEN: "Angkor Night Guesthouse", CompanyNameKH: "ផ្ទះសំណាក់រាត្រីអង្គរ",
			TIN: "L001-9012345", DateOfIncorporation: "2021-11-30", BusinessType: "Sole Proprietorship", City: "Siem Reap",
			Country: "KH", PhoneNumber: "+85563761234", Email: "hello@angkornight.example",
		},
	}
}

// ELECQMerchant is an account at the imitated ELECQ. ClientID and ClientSecret are its own, for ELECQ_AUTHORIZE=credentials.
type ELECQMerchant struct {
	UserID, Name           string
	ClientID, ClientSecret string
}

// SampleELECQMerchants are the accounts on ELECQ's sign-in page; each also has credentials of its own.
func SampleELECQMerchants() []ELECQMerchant {
	return []ELECQMerchant{
		{"100245", "Canal Parking Rotterdam", "canal-parking", "elecq-canal-5f0d1c7be2a94c36"},
		{"100391", "Harbour Hotel Charging", "harbour-hotel", "elecq-harbour-91b7e04d2f6a4a58"},
		{"100518", "Green Depot Logistics", "green-depot", "elecq-depot-c3a8f29160de4b7f"},
	}
}

// FlexitiMerchant is a developer account at the imitated Flexiti.
type FlexitiMerchant struct {
	ClientID, ClientSecret   string
	Username, Password       string // for the deprecated merchants/login
	MerchantName, MerchantID string
	NoRole                   bool // the portal account is not provisioned: 409 invalid_role
}

// SampleFlexitiMerchants are for typing into the app's form. The last one is answered with 409 invalid_role.
func SampleFlexitiMerchants() []FlexitiMerchant {
	return []FlexitiMerchant{
		{"flexitidemo", "77xde15a-9d33-4c15-930a-3se4b3as33e9", "acmejewellers", "dice-vanila-purse", "ACME Jewellers", "123456", false},
		{"mattresshouse", "0c5a2e7b-41f8-4f0e-8a53-d92b6e7c1140", "mattresshouse", "lamp-cedar-drift", "Mattress House Montréal", "204811", false},
		{"snowbikes", "e81f6d32-7b9c-4a6d-b1e4-50c7a3f92d68", "snowbikes", "frost-pedal-amber", "Snow Bikes Calgary", "310077", false},
		{"notprovisioned", "5d24b8c1-62e0-4b93-9f17-a0c8d37e6b52", "", "", "Not Provisioned Inc.", "999001", true},
	}
}

// BookingsMerchant is a partner's client at the imitated bookings API.
type BookingsMerchant struct {
	ClientID, ClientSecret string
	Name                   string // known to the sandbox only: the API never says it
	PartnerID, UserID      string
	Live                   bool // is_test false
}

// SampleBookingsMerchants are for typing into the app's form. The last one's tokens say is_test false.
func SampleBookingsMerchants() []BookingsMerchant {
	return []BookingsMerchant{
		{"9b1e82a7-0a59-4e7e-add5-b9ffa37aade1", "hT3uVbq0ZsYk1mWc8xRfJ2nLdGpA6eQi5oXyNvKB", "Riverside Spa", "f31120ee-b5cb-41c4-9529-288d02e91cd6", "842902db-54e5-4614-b348-002e8ce5da12", false},
		{"9b1e82a7-6c14-4d0b-9a8e-51f0c2d7b3e4", "Zr7KcYw2QeLp9TgXs4BnHv0UdJm6AiFo3EyRuNxC", "Lakeside Dining", "2b7d9e04-18a6-4c5f-8e3b-90d4f6a1c752", "d6a0c3f8-72e9-4b15-a4d8-3c9f0e6b2718", false},
		{"9b1e82a7-f3d8-4a92-8b60-7e2c9d51a046", "Qm5XvNs8LbTj1WyGa6RkPz3EfCd9HuIo4UiVeYrA", "Old Town Tours", "7c41f0a9-d35e-4e82-b6c7-1a08e59d3f24", "1e94b7d2-3f60-4ca8-9d15-e80a72c6f493", true},
	}
}

// User is a person at the standard provider.
type User struct {
	Sub, Name, Email string
}

// SampleUsers are the people on the standard provider's sign-in page.
func SampleUsers() []User {
	return []User{
		{"acme-user-001", "Sokha Chan", "sokha@acme.example"},
		{"acme-user-002", "Élodie Tremblay", "elodie@acme.example"},
		{"acme-user-003", "Jan de Vries", "jan@acme.example"},
	}
}
