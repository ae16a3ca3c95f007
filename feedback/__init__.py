"""What the router learns from: decisions, outcomes and ratings, kept in SQL."""
