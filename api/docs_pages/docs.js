"use strict";

// Swagger UI has a dark form, and leaves it to the page when to show it.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
follow();
dark.addEventListener("change", follow);

SwaggerUIBundle({
  // Relative, so that it is right behind a path prefix, too.
  url: "openapi.json",
  dom_id: "#swagger-ui",
  layout: "BaseLayout",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  defaultModelsExpandDepth: 0,
  // Nothing is sent to a validator elsewhere.
  validatorUrl: null,
  // Colouring a picture's base64 would hold the page for seconds.
  syntaxHighlight: false,
});
