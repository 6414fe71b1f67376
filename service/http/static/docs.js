"use strict";

const place = document.getElementById("swagger-ui");
// No validator badge: it would send the description to somebody else's server.
SwaggerUIBundle({ url: place.dataset.description, domNode: place, validatorUrl: null });
