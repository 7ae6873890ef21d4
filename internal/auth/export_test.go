package auth

// Sign2ForTest signs a text by version 2.
func Sign2ForTest(secret, text string) string { return sign2(secret, text) }
