"""Which sample comes next, where its bytes come from, and what is made of them."""
