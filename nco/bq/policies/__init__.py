"""One policy per problem."""
