"""How everything that ships was made: recipes that are run, and cards that are written from what came out."""
