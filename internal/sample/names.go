package sample

// What made-up companies are named after, in Latin and in Khmer letters. The first twelve are also given names.
func companyWords() [][2]string {
	return [][2]string{
		{"Sokha", "សុខា"},
		{"Dara", "ដារា"},
		{"Bopha", "បុប្ផា"},
		{"Sophea", "សុភា"},
		{"Vannak", "វណ្ណៈ"},
		{"Chenda", "ចិន្តា"},
		{"Rithy", "រិទ្ធី"},
		{"Kunthea", "គន្ធា"},
		{"Pisey", "ពិសី"},
		{"Samnang", "សំណាង"},
		{"Maly", "ម៉ាលី"},
		{"Veasna", "វាសនា"},
		{"Angkor", "អង្គរ"},
		{"Mekong", "មេគង្គ"},
		{"Tonle Sap", "ទន្លេសាប"},
		{"Phnom Penh", "ភ្នំពេញ"},
		{"Siem Reap", "សៀមរាប"},
		{"Battambang", "បាត់ដំបង"},
		{"Kampot", "កំពត"},
		{"Kep", "កែប"},
		{"Koh Kong", "កោះកុង"},
		{"Bayon", "បាយ័ន"},
		{"Apsara", "អប្សរា"},
		{"Lotus", "ឈូក"},
		{"Golden", "មាស"},
		{"Silver", "ប្រាក់"},
		{"Diamond", "ពេជ្រ"},
		{"Silk", "សូត្រ"},
		{"Jasmine", "ម្លិះ"},
		{"Pepper", "ម្រេច"},
		{"Mango", "ស្វាយ"},
		{"Palm", "ត្នោត"},
		{"Star", "តារា"},
		{"Sunrise", "អរុណ"},
		{"Moonlight", "ចន្ទ្រា"},
		{"River", "ស្ទឹង"},
		{"Mountain", "ភ្នំ"},
		{"Forest", "ព្រៃ"},
		{"Naga", "នាគ"},
		{"Elephant", "ដំរី"},
		{"Tiger", "ខ្លា"},
		{"Peacock", "ក្ងោក"},
		{"Victory", "ជ័យ"},
		{"Peace", "សន្តិភាព"},
		{"Friendship", "មិត្តភាព"},
		{"Modern", "ទំនើប"},
		{"Royal", "រាជ"},
		{"New Era", "សម័យថ្មី"},
		{"Evergreen", "បៃតង"},
		{"Ocean", "មហាសមុទ្រ"},
	}
}

func companyTrades() [][2]string {
	return [][2]string{
		{"Trading", "ពាណិជ្ជកម្ម"},
		{"Construction", "សំណង់"},
		{"Transport", "ដឹកជញ្ជូន"},
		{"Travel", "ទេសចរណ៍"},
		{"Coffee", "កាហ្វេ"},
		{"Bakery", "នំប៉័ង"},
		{"Pharmacy", "ឱសថស្ថាន"},
		{"Hotel", "សណ្ឋាគារ"},
		{"Electric", "អគ្គិសនី"},
		{"Furniture", "គ្រឿងសង្ហារឹម"},
		{"Textile", "វាយនភណ្ឌ"},
		{"Rice Mill", "រោងម៉ាស៊ីនស្រូវ"},
		{"Printing", "បោះពុម្ព"},
		{"Motors", "យានយន្ត"},
		{"Media", "ប្រព័ន្ធផ្សព្វផ្សាយ"},
		{"Clinic", "គ្លីនិក"},
		{"Seafood", "គ្រឿងសមុទ្រ"},
		{"Logistics", "ភស្តុភារ"},
	}
}

func companyForms() []string {
	return []string{"Co., Ltd", "Co., Ltd", "Co., Ltd", "Group", "Import Export Co., Ltd", "Enterprise", "SARL", "B.V.", "Inc."}
}
